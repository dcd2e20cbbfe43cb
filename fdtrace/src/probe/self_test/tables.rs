//! fdtrace changes its own table in every way that a process can, and must see each change.
//!
//! Compilers inline, kernels move work from one function to the next: whether the hooks that attach are
//! those that carry the work is found out here, and by nothing else.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::maps::{MapData, RingBuf};
use fdtrace_common::record::RECORD_REPLACED;
use rustix::{
    io::{close, dup, dup2, fcntl_dupfd_cloexec},
    net::{
        RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
    process::{Resource, getrlimit},
};

use crate::stream::{
    record::{Changed, Record},
    ring::drain,
};

/// Records are there when the call returns; this is for a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(2);
/// A number far above those in use.
const HIGH: u64 = 200;

/// That number, or the last one where the limit is lower: `own_fds` has seen to it that it is free.
fn high() -> i32 {
    let last = getrlimit(Resource::Nofile).current;
    let last = last.map_or(HIGH, |limit| limit.saturating_sub(1));
    i32::try_from(last.min(HIGH)).unwrap_or(0)
}

/// What records say, as far as the test looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Opened(u32),
    Replaced(u32),
    Closed(u32),
    Copied,
    Bound,
    Executed,
    Exited,
}

/// What has been seen, and what was not.
struct Test<'a> {
    ring: &'a mut RingBuf<MapData>,
    missed: Vec<&'static str>,
}

/// Goes every way there is. The error names those on which something was missed.
pub(in crate::probe) fn run(ring: &mut RingBuf<MapData>) -> Result<()> {
    drain(ring, |_| {});
    let mut test = Test {
        ring,
        missed: Vec::new(),
    };
    test.slots().context("its self-test could not be done")?;
    test.messages().context("its self-test could not be done")?;
    test.processes()
        .context("its self-test could not be done")?;
    if !test.missed.is_empty() {
        bail!(
            "its self-test failed: it does not see {}",
            test.missed.join(", ")
        );
    }
    Ok(())
}

fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs()
}

impl Test<'_> {
    /// Has this been told by now? Other records are not looked at again.
    fn expect(&mut self, what: &'static str, wanted: &[Seen]) {
        let mut wanted = wanted.to_vec();
        let deadline = Instant::now() + PATIENCE;
        loop {
            drain(self.ring, |bytes| {
                if let Some(seen) = seen(bytes)
                    && let Some(index) = wanted.iter().position(|wanted| *wanted == seen)
                {
                    wanted.remove(index);
                }
            });
            if wanted.is_empty() {
                return;
            }
            // One that is missing was never written: only a CPU that is held up makes it late.
            if Instant::now() > deadline || !self.missed.is_empty() {
                self.missed.push(what);
                return;
            }
            std::thread::yield_now();
        }
    }

    #[expect(unsafe_code, reason = "dup2 onto a free number, and close_range")]
    fn slots(&mut self) -> Result<()> {
        let file = File::open("/dev/null")?;
        self.expect("open", &[Seen::Opened(number(&file))]);
        let mut copy = dup(&file)?;
        self.expect("dup", &[Seen::Opened(number(&copy))]);
        let high = fcntl_dupfd_cloexec(&file, high())?;
        self.expect("fcntl(F_DUPFD)", &[Seen::Opened(number(&high))]);
        dup2(&file, &mut copy)?;
        let place = number(&copy);
        self.expect("dup2 over an open fd", &[Seen::Replaced(place)]);
        // SAFETY: `copy` is given a file again before anybody uses it; fdtrace has one thread here.
        unsafe { close(copy.as_raw_fd()) };
        self.expect("close", &[Seen::Closed(place)]);
        dup2(&file, &mut copy)?;
        self.expect("dup2 onto a free number", &[Seen::Opened(place)]);
        let (one, other) = rustix::pipe::pipe()?;
        let ends = [number(&one), number(&other)].map(Seen::Opened);
        self.expect("pipe", &ends);
        let first = high.as_raw_fd().unsigned_abs() as usize;
        // SAFETY: only `high` is closed, and it is forgotten.
        let closed = unsafe { syscalls::syscall!(syscalls::Sysno::close_range, first, first, 0) };
        match closed {
            Ok(_) => {
                let number = number(&high);
                std::mem::forget(high);
                self.expect("close_range", &[Seen::Closed(number)]);
            }
            // Before 5.9 there is none, and nothing to be missed.
            Err(error) => log::debug!("close_range: {error}"),
        }
        Ok(())
    }

    /// A file that comes with a message.
    fn messages(&mut self) -> Result<()> {
        let (sender, receiver) = UnixStream::pair()?;
        let ends = [number(&sender), number(&receiver)].map(Seen::Opened);
        self.expect("socketpair", &ends);
        let files = [sender.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut room);
        message.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(
            &sender,
            &[IoSlice::new(b"x")],
            &mut message,
            SendFlags::empty(),
        )?;
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut room);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(
            &receiver,
            &mut [IoSliceMut::new(&mut byte)],
            &mut message,
            flags,
        )?;
        let mut files: Vec<OwnedFd> = Vec::new();
        for message in message.drain() {
            if let rustix::net::RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        let Some(file) = files.first() else {
            bail!("no file came with the message");
        };
        self.expect(
            "files passed with SCM_RIGHTS",
            &[Seen::Opened(number(file))],
        );
        Ok(())
    }

    /// A child that becomes another program and ends. All of fdtrace's own fds close with that.
    fn processes(&mut self) -> Result<()> {
        let mut child = Command::new("/proc/self/exe");
        let child = child
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = child.status().context("starting /proc/self/exe")?;
        if !status.success() {
            bail!("/proc/self/exe --version ended with {status}");
        }
        let deadline = Instant::now() + PATIENCE;
        let wanted = [
            (Seen::Copied, "fork"),
            (Seen::Bound, "new processes"),
            (Seen::Executed, "exec"),
            (Seen::Exited, "the end of a process"),
        ];
        let mut all = Vec::new();
        loop {
            drain(self.ring, |bytes| all.extend(seen(bytes)));
            let is_missing = |(wanted, _): &&(Seen, _)| !all.contains(wanted);
            let missing: Vec<_> = wanted.iter().filter(is_missing).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline || !self.missed.is_empty() {
                self.missed.extend(missing.iter().map(|(_, what)| what));
                return Ok(());
            }
            std::thread::yield_now();
        }
    }
}

fn seen(bytes: &[u8]) -> Option<Seen> {
    let Ok(Record::Change(change)) = Record::read(bytes) else {
        return None;
    };
    match change {
        Changed::Opened(record) if record.kind == RECORD_REPLACED => {
            Some(Seen::Replaced(record.fd))
        }
        Changed::Opened(record) => Some(Seen::Opened(record.fd)),
        Changed::Closed(record) => Some(Seen::Closed(record.fd)),
        Changed::Copied(_) => Some(Seen::Copied),
        Changed::Bound(_) => Some(Seen::Bound),
        Changed::Executed(_) => Some(Seen::Executed),
        Changed::Exited(_) => Some(Seen::Exited),
        Changed::CopiedSlots(_) | Changed::Renamed(_) => None,
    }
}
