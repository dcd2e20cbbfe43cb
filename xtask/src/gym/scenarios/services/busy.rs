//! Services that close all they open, and would need more than they may have.

use std::{
    collections::VecDeque,
    env,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Pace, is_full, open, own_program, ran_out,
    server::{self, Manner},
};
use crate::{
    report::{Facts, Holder},
    run::Run,
    sys::{fds, process},
};

/// How long they work, unless told otherwise.
const SECONDS: u64 = 9;

/// What is open of the kind that a service is about, oldest first, and what became of those that were not.
struct Work {
    open: VecDeque<(Instant, OwnedFd)>,
    /// At the first failure.
    facts: Option<Facts>,
    failures: u64,
    until: Instant,
    call: &'static str,
    holder: Holder,
}

impl Work {
    fn new(run: &Run, call: &'static str, kind: &str, target: Option<String>) -> Self {
        let seconds = run.options.seconds.unwrap_or(SECONDS);
        Self {
            open: VecDeque::new(),
            facts: None,
            failures: 0,
            until: Instant::now() + Duration::from_secs(seconds),
            call,
            holder: Holder {
                kind: kind.to_owned(),
                target,
                count: 0,
            },
        }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Takes in one more, or notes that there was no room: false.
    fn take(&mut self, run: &Run, opened: io::Result<OwnedFd>) -> Result<bool> {
        match opened {
            Ok(opened) => self.open.push_back((Instant::now(), opened)),
            Err(error) if is_full(&error) => {
                self.failures += 1;
                if self.facts.is_none() {
                    self.holder.count = u64::try_from(self.open.len())?;
                    self.facts = Some(ran_out(run, self.call, 0, self.holder.clone())?);
                }
                return Ok(false);
            }
            Err(error) => return Err(error).context(self.call),
        }
        Ok(true)
    }

    /// Opens until there is no room, and gives back what is more than so many.
    fn peak(
        &mut self,
        run: &Run,
        keep: usize,
        make: impl Fn() -> io::Result<OwnedFd>,
    ) -> Result<()> {
        while self.take(run, make())? {}
        self.open.truncate(keep);
        Ok(())
    }

    /// Stays with what is open now.
    fn end(self, run: &mut Run) -> Result<Facts> {
        run.held.extend(self.open.into_iter().map(|(_, fd)| fd));
        let Some(mut facts) = self.facts else {
            bail!("it has never run into its limit");
        };
        facts.failures = self.failures;
        Ok(facts)
    }
}

/// 250 connections would be open at once: a hundred a second, each for 2.5 seconds.
pub(super) fn crawler(run: &mut Run) -> Result<Facts> {
    const LIFE: Duration = Duration::from_millis(2_500);
    let address = server::start(run, Manner::Waits)?;
    run.gate()?;
    let mut work = Work::new(run, "socket", "tcp", Some(address.to_string()));
    let mut pace = Pace::new(Duration::from_millis(10));
    while work.goes_on() {
        pace.wait();
        while work
            .open
            .front()
            .is_some_and(|(since, _)| since.elapsed() > LIFE)
        {
            work.open.pop_front();
        }
        work.take(run, server::connect(address))?;
    }
    work.end(run)
}

/// 190 connections; the oldest is replaced, and every second a few more are wanted than there is room for.
pub(super) fn pool(run: &mut Run) -> Result<Facts> {
    const SIZE: usize = 190;
    let address = server::start(run, Manner::Waits)?;
    run.gate()?;
    let mut work = Work::new(run, "socket", "tcp", Some(address.to_string()));
    let mut pace = Pace::new(Duration::from_millis(10));
    let mut beats = 0;
    while work.goes_on() {
        if work.open.len() >= SIZE {
            pace.wait();
            work.open.pop_front();
            beats += 1;
        }
        work.take(run, server::connect(address))?;
        if beats == 100 {
            beats = 0;
            work.peak(run, SIZE, || server::connect(address))?;
        }
    }
    work.end(run)
}

/// Twenty are open all the time; every other second there is no number left for an instant.
pub(super) fn bursts(run: &mut Run) -> Result<Facts> {
    let path = own_program()?;
    run.fill_to(20, fds::openat)?;
    run.gate()?;
    let target = Some(path.display().to_string());
    let mut work = Work::new(run, "openat", "file", target);
    let mut pace = Pace::new(Duration::from_secs(2));
    pace.wait();
    while work.goes_on() {
        pace.wait();
        work.peak(run, 0, || open(&path))?;
    }
    work.end(run)
}

/// 190 of 250 files; half of those that are asked for are not among them.
pub(super) fn cache(run: &mut Run) -> Result<Facts> {
    const SIZE: usize = 190;
    const FILES: usize = 250;
    let folder = Folder::new(FILES)?;
    run.gate()?;
    // They are many, and no path is theirs.
    let mut work = Work::new(run, "openat", "file", None);
    let mut pace = Pace::new(Duration::from_millis(10));
    let mut next = 0;
    while work.goes_on() {
        if work.open.len() >= SIZE {
            pace.wait();
            if next % 100 == 0 {
                // Somebody asks for all that there are.
                work.peak(run, SIZE, || folder.open(next))?;
            }
            work.open.pop_front();
        }
        work.take(run, folder.open(next % FILES))?;
        next += 1;
    }
    work.end(run)
}

/// Files in a folder of their own, which is gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(files: usize) -> Result<Self> {
        let folder = env::temp_dir().join(format!("gym-cache-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let folder = Self(folder);
        for number in 0..files {
            let path = folder.path(number);
            File::create(&path).with_context(|| path.display().to_string())?;
        }
        Ok(folder)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.0.join(number.to_string())
    }

    fn open(&self, number: usize) -> io::Result<OwnedFd> {
        open(&self.path(number % 250))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Below the folder for temporary files: whoever cleans that up finds it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Eighty children would run at once: forty a second, each for two seconds, or for eighty turns where forks take
/// their time.
pub(super) fn cgi(run: &mut Run) -> Result<Facts> {
    const AT_ONCE: u64 = 80;
    const LIFE: Duration = Duration::from_secs(2);
    run.gate()?;
    let mut work = Work::new(run, "pipe2", "pipe", None);
    let mut children = VecDeque::new();
    let mut pace = Pace::new(Duration::from_millis(25));
    let mut turn: u64 = 0;
    while work.goes_on() {
        pace.wait();
        turn += 1;
        while let Some((since, child)) = children.front().copied()
            && turn - since >= AT_ONCE
        {
            let (_, answer) = work
                .open
                .pop_front()
                .context("fewer answers than children")?;
            fds::read_byte(answer.as_raw_fd()).context("a child's answer")?;
            drop(answer);
            children.pop_front();
            ensure!(
                process::wait_for(child)? == Some(0),
                "a child did not end well"
            );
        }
        let pipe = fds::pipe2();
        let answer = match pipe {
            Ok((answer, theirs)) => {
                let child = process::fork_into(|| request(&theirs, LIFE))?;
                children.push_back((turn, child));
                Ok(answer)
            }
            Err(error) => Err(error),
        };
        work.take(run, answer)?;
    }
    run.offspring
        .extend(children.into_iter().map(|(_, child)| child));
    work.end(run)
}

/// What runs the script has nothing open but its end of the pipe.
fn request(answer: &OwnedFd, life: Duration) -> i32 {
    let number = answer.as_raw_fd();
    let mut others = (3..256).filter(|&other| other != number && fds::is_open(other));
    let closed = others.try_for_each(fds::close);
    std::thread::sleep(life);
    // Whoever asked may have gone.
    let _ = fds::write(number, b"x");
    i32::from(closed.is_err())
}
