//! A process of its own reads ELF files and unwinds stacks: what they contain is chosen by whoever owns them.
//!
//! Parsers of DWARF and demanglers recurse, loop and allocate as their input has them, and no size that is
//! checked beforehand bounds that: a line of a table can stand for any number of rows, an expression can jump
//! back to itself, a name of a hundred letters can be gigabytes long. So the process that does this has a bound on
//! its memory, time for each answer, few rights and nothing to lose: where it dies or does not answer it is started
//! anew, and what it was asked about goes without names. fdtrace itself reads none of these files.

mod own;
mod python;
mod serve;
mod wire;

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fdtrace_common::stack::REGISTERS;
use log::{debug, warn};
use rustc_hash::FxHashSet;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    time::Timespec,
};

pub use self::own::is_reader;
pub(super) use self::serve::path_of;
use self::wire::{Answer, Mapped, Request};
use super::{
    bounds,
    image::Image,
    imports::Found,
    module::Module,
    stack::Frame,
    unwind::{DEPTH, Unwound},
};
use crate::child;

/// Functions at one address: it says so many at most, whatever it has been brought to do.
const NAMES: usize = 64;

/// What the process is called.
const NAME: &str = "fdtrace-elf";
/// What fdtrace is started with to be this process; no option that anybody would type.
const ARGUMENT: &str = "--read-elf-files-on-stdin";

/// Is the reader process, and returns when it is not needed any more, if it was started as that.
#[must_use]
pub fn serve_if_asked() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    let is_asked = arguments
        .next()
        .is_some_and(|argument| argument == ARGUMENT);
    if is_asked {
        child::close_inherited();
        if let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() {
            serve::serve(&socket);
        }
    }
    is_asked
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The process has ended.
    Died,
    /// It did not answer in time, and was ended.
    Slow,
    /// It cannot be had, or rests.
    Absent,
}

/// The near end of the process; starts it when there is something to ask.
#[derive(Default)]
pub(super) struct Reader {
    running: Option<Running>,
    /// When it has failed to answer.
    strikes: VecDeque<Instant>,
    /// What it has failed over: it is not asked about it again.
    refused_images: FxHashSet<u32>,
    refused_modules: FxHashSet<u32>,
    buffer: wire::Buffer,
}

struct Running {
    child: Child,
    socket: OwnedFd,
    /// What it has been told.
    modules: FxHashSet<u32>,
    images: FxHashSet<u32>,
    /// Questions that it has answered.
    answered: u64,
}

impl Reader {
    /// Unwinds a stack of a process.
    pub(super) fn unwind(
        &mut self,
        image: &mut Image,
        registers: &[u64; REGISTERS],
        bytes: &[u8],
    ) -> Option<Unwound> {
        if self.refused_images.contains(&image.key) {
            return None;
        }
        let outcome = self.twice(|reader| {
            reader.tell_image(image)?;
            let request = Request::Unwind {
                key: image.key,
                registers: *registers,
            };
            match reader.ask(&request, bytes)? {
                Answer::Unwound(mut unwound) => {
                    unwound.addresses.truncate(DEPTH);
                    Ok(unwound)
                }
                _ => Err(Failure::Died),
            }
        });
        self.judge(outcome, |reader, failure| {
            reader.refused_images.insert(image.key);
            warn!(
                "no stacks of process {}: reading its files {failure}",
                image.tgid
            );
        })
    }

    /// Where a process had this program's code, which ended there: where each part begins and ends, and where in the
    /// file it begins.
    pub(super) fn code(&mut self, module: &Module, end_code: u64) -> Option<Vec<(u64, u64, u64)>> {
        if self.refused_modules.contains(&module.id) {
            return None;
        }
        let outcome = self.twice(|reader| {
            reader.tell_module(module)?;
            let request = Request::Code {
                module: module.id,
                end_code,
            };
            match reader.ask(&request, &[])? {
                Answer::Code(code) => Ok(code),
                _ => Err(Failure::Died),
            }
        });
        self.judge(outcome, |reader, _| {
            reader.refused_modules.insert(module.id);
        })
    }

    /// The functions at an address of a file, the innermost first; none where no names are known.
    pub(super) fn names(&mut self, module: &Module, address: u64) -> Option<Vec<Frame>> {
        if self.refused_modules.contains(&module.id) {
            return None;
        }
        let outcome = self.twice(|reader| {
            reader.tell_module(module)?;
            let request = Request::Names {
                module: module.id,
                address,
            };
            match reader.ask(&request, &[])? {
                Answer::Names(mut names) => {
                    names.truncate(NAMES);
                    Ok(names)
                }
                _ => Err(Failure::Died),
            }
        });
        self.judge(outcome, |reader, failure| {
            reader.refused_modules.insert(module.id);
            warn!(
                "no names of functions in {}: reading it {failure}",
                module.path
            );
        })
    }

    /// Whether a file uses select; `None`: it cannot be read.
    pub(super) fn imports(&mut self, module: &Module) -> Option<Found> {
        if self.refused_modules.contains(&module.id) {
            return None;
        }
        let outcome = self.twice(|reader| {
            reader.send(&Request::Imports, &[], Some(module.file.as_fd()))?;
            match reader.receive()? {
                Answer::Imports(imports) => Ok(imports),
                _ => Err(Failure::Died),
            }
        });
        let answer = self.judge(outcome, |reader, _| {
            reader.refused_modules.insert(module.id);
        });
        answer.flatten()
    }

    /// Ends the process; another one is started when there is something to ask.
    pub(super) fn rest(&mut self) {
        self.running = None;
    }

    /// A process that dies over what it is asked may have died of something else: its memory was full of what it was
    /// asked before, or somebody has killed it. A new one is asked again.
    fn twice<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // One that holds a lot begins anew.
        self.running.take_if(|running| {
            running.images.len() >= bounds::IMAGES || running.modules.len() >= bounds::READ
        });
        let answered = self.running.as_ref().map_or(0, |running| running.answered);
        match ask(self) {
            Err(Failure::Died) if answered > 0 => {
                let outcome = ask(self);
                if outcome.is_ok() {
                    warn!(
                        "{NAME}, which reads programs, has ended: another one has taken its place"
                    );
                    self.strike();
                }
                outcome
            }
            outcome => outcome,
        }
    }

    /// It has failed to answer once more.
    fn strike(&mut self) {
        let rested = self.rests();
        self.strikes.push_back(Instant::now());
        if !rested && self.rests() {
            warn!(
                "no more stacks and names of functions are read for {} s: {NAME} has failed {} times",
                bounds::REST.as_secs(),
                bounds::STRIKES
            );
        }
    }

    fn judge<T>(
        &mut self,
        outcome: Result<T, Failure>,
        refuse: impl FnOnce(&mut Self, &str),
    ) -> Option<T> {
        match outcome {
            Ok(answer) => return Some(answer),
            Err(Failure::Absent) => return None,
            Err(Failure::Died) => refuse(self, "ends the process that does it"),
            Err(Failure::Slow) => refuse(self, "takes too long"),
        }
        self.strike();
        None
    }

    /// Has the process know these mappings, and the image what their addresses differ by from the files'.
    fn tell_image(&mut self, image: &mut Image) -> Result<(), Failure> {
        if self.running()?.images.contains(&image.key) {
            return Ok(());
        }
        for module in image.modules() {
            self.tell_module(&module)?;
        }
        let mapped = image.mappings.iter().map(|mapping| Mapped {
            start: mapping.start,
            end: mapping.end,
            offset: mapping.offset,
            module: mapping.module.as_ref().map(|module| module.id),
        });
        let mapped: Vec<_> = mapped.collect();
        let mut rest = &mapped[..];
        let answer = loop {
            let (mappings, further) = rest.split_at(rest.len().min(wire::MAPPINGS));
            let request = Request::Image {
                key: image.key,
                mappings: mappings.to_vec(),
                is_last: further.is_empty(),
            };
            if further.is_empty() {
                break self.ask(&request, &[])?;
            }
            self.send(&request, &[], None)?;
            rest = further;
        };
        let Answer::Biases(biases) = answer else {
            return Err(Failure::Died);
        };
        image.take(&biases);
        self.running()?.images.insert(image.key);
        Ok(())
    }

    fn tell_module(&mut self, module: &Module) -> Result<(), Failure> {
        if !self.running()?.modules.contains(&module.id) {
            let file = Some(module.file.as_fd());
            self.send(&Request::Module(module.id), &[], file)?;
            self.running()?.modules.insert(module.id);
        }
        Ok(())
    }

    /// The process, started if it does not run.
    fn running(&mut self) -> Result<&mut Running, Failure> {
        if self.running.is_none() {
            if self.rests() {
                return Err(Failure::Absent);
            }
            let started = Running::start();
            self.running = started
                .inspect_err(|error| warn!("no stacks are resolved: starting a process: {error}"))
                .ok();
            if self.running.is_none() {
                self.strike();
            }
        }
        self.running.as_mut().ok_or(Failure::Absent)
    }

    /// Has it failed so often of late that it is left alone?
    fn rests(&mut self) -> bool {
        while self
            .strikes
            .front()
            .is_some_and(|strike| strike.elapsed() >= bounds::REST)
        {
            self.strikes.pop_front();
        }
        self.strikes.len() >= bounds::STRIKES
    }

    fn send(
        &mut self,
        request: &Request,
        behind: &[u8],
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure> {
        let running = self.running()?;
        let outcome = running.send(request, behind, fd);
        outcome.map_err(|failure| self.fail(failure))
    }

    fn ask(&mut self, request: &Request, behind: &[u8]) -> Result<Answer, Failure> {
        self.send(request, behind, None)?;
        self.receive()
    }

    fn receive(&mut self) -> Result<Answer, Failure> {
        let running = self.running.as_mut().ok_or(Failure::Absent)?;
        let outcome = running.receive(&mut self.buffer);
        outcome.map_err(|failure| self.fail(failure))
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.running = None;
        failure
    }
}

impl Running {
    /// To be called by a thread that stays.
    fn start() -> io::Result<Self> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut command = Command::new("/proc/self/exe");
        if cfg!(test) {
            // The program that runs then is that of the tests: one of them is this process.
            command.args([
                "--exact",
                "--quiet",
                "enrich::stacks::reader::tests::process",
            ]);
        } else {
            command.arg(ARGUMENT);
        }
        let child = child::prepare(&mut command)
            .arg0(NAME)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        own::began(child.id());
        Ok(Self {
            child,
            socket,
            modules: FxHashSet::default(),
            images: FxHashSet::default(),
            answered: 0,
        })
    }

    fn send(
        &self,
        request: &Request,
        behind: &[u8],
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure> {
        let mut patience = Patience::begins();
        loop {
            match wire::send(self.socket.as_fd(), request, behind, fd) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, &mut patience)?;
                }
                Err(error) => {
                    debug!("asking the process that reads ELF files: {error}");
                    return Err(Failure::Died);
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut wire::Buffer) -> Result<Answer, Failure> {
        self.wait(PollFlags::IN, &mut Patience::begins())?;
        match buffer.receive(self.socket.as_fd()) {
            Ok(Some((answer, ..))) => {
                self.answered += 1;
                Ok(answer)
            }
            Ok(None) | Err(_) => Err(Failure::Died),
        }
    }

    /// Time of the processor that it has used, as far as it can be known: fields 14 and 15 of /proc/PID/stat,
    /// of which the name is fdtrace's own choice.
    fn used(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let ticks = stat.split_ascii_whitespace().skip(13).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1))
    }

    fn wait(&self, for_what: PollFlags, patience: &mut Patience) -> Result<(), Failure> {
        const SLICE: Duration = Duration::from_millis(200);
        loop {
            let left = patience.until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left.min(SLICE)).map_err(|_| Failure::Slow)?;
            let mut fds = [PollFd::new(&self.socket, for_what)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) if left.is_zero() || patience.is_used_up(self.used()) => {
                    return Err(Failure::Slow);
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(_) => return Err(Failure::Died),
            }
        }
    }
}

/// Until when an answer is waited for.
struct Patience {
    until: Instant,
    /// Time of the processor that the process may have used by then. Known when an answer does not come at once:
    /// looking opens a file, and where that is done for each stack, two fdtraces that take each other's stacks
    /// have each other take more and more.
    until_used: Option<Duration>,
}

impl Patience {
    fn begins() -> Self {
        Self {
            until: Instant::now() + bounds::PATIENCE_WALL,
            until_used: None,
        }
    }

    fn is_used_up(&mut self, used: Duration) -> bool {
        let until = self.until_used.get_or_insert(used + bounds::PATIENCE);
        used > *until
    }
}

impl Drop for Running {
    /// One that hangs in a file system whose server is gone cannot be waited for: it is left to die.
    fn drop(&mut self) {
        const GRACE: Duration = Duration::from_millis(200);
        let _ = self.child.kill();
        let ended = child::pidfd(&self.child)
            .and_then(|pidfd| child::ends_by(&pidfd, None, Instant::now() + GRACE));
        if ended.unwrap_or(false) {
            let _ = self.child.wait();
        }
        own::ended(self.child.id());
    }
}

#[cfg(test)]
mod tests;
