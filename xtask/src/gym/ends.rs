//! The pipes between the first process and those that it makes: they tell when they are ready,
//! and stay until it ends.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    report::Facts,
    run::{PATIENCE, Run},
    sys::{fds, process},
};

/// What a line starts with that tells what went wrong.
const WRONG: u8 = b'!';

/// The ends of one process: the first one's, or those of what it makes.
pub(crate) struct Side {
    /// Where lines from the others arrive, or are written to.
    line: OwnedFd,
    /// Closes with the first process, or shows that it has.
    end: OwnedFd,
}

/// Both pipes, as they are before there is anybody to talk to.
pub(crate) struct Ends {
    /// The first process's.
    ours: Side,
    /// Those of the processes it makes.
    theirs: Side,
}

impl Ends {
    /// Makes the pipes; exec closes the first process's ends of them.
    pub(crate) fn new() -> Result<Self> {
        let (told, tells) = fds::pipe2().context("pipe2")?;
        let (released, release) = fds::pipe2().context("pipe2")?;
        for ours in [&told, &release] {
            fds::set_cloexec(ours.as_raw_fd()).context("FD_CLOEXEC")?;
        }
        Ok(Self {
            ours: Side {
                line: told,
                end: release,
            },
            theirs: Side {
                line: tells,
                end: released,
            },
        })
    }

    /// The numbers that a program started by the first process has to find: where to tell, and
    /// what shows the end.
    pub(crate) fn numbers(&self) -> (RawFd, RawFd) {
        (self.theirs.line.as_raw_fd(), self.theirs.end.as_raw_fd())
    }

    /// The numbers that such a program must not have: where lines arrive, and what shows the end.
    pub(crate) fn own_numbers(&self) -> (RawFd, RawFd) {
        (self.ours.line.as_raw_fd(), self.ours.end.as_raw_fd())
    }

    /// In a forked process, first of all: gives up the first process's ends.
    ///
    /// By number, because nobody drops what the fork has copied; no memory is needed.
    pub(crate) fn leave(&self) -> bool {
        let (told, release) = self.own_numbers();
        fds::close(told).is_ok() && fds::close(release).is_ok()
    }

    /// All that a forked process does which may only make system calls; its exit status.
    pub(crate) fn stay_bare(&self) -> i32 {
        let stayed = self.leave()
            && process::die_with_parent().is_ok()
            && self.tell().is_ok()
            && fds::read_byte(self.theirs.end.as_raw_fd()).is_ok();
        i32::from(!stayed)
    }

    /// A forked process after `leave`: does its part, tells, and stays; its exit status.
    pub(crate) fn stay(&self, part: impl FnOnce() -> Result<Facts>) -> i32 {
        self.theirs.stay(part)
    }

    /// A forked process says that it is so far, without any facts.
    pub(crate) fn tell(&self) -> io::Result<()> {
        fds::write(self.theirs.line.as_raw_fd(), b"\n")
    }

    /// A forked process says what went wrong; its exit status.
    pub(crate) fn complain(&self, error: &anyhow::Error) -> i32 {
        // The exit status tells as well that something did.
        let _ = fds::write(self.theirs.line.as_raw_fd(), &complaint(error));
        1
    }

    /// The next line from a process: its facts, if it tells any.
    pub(crate) fn hear(&self) -> Result<Option<Facts>> {
        let end = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_millis();
            let arrived = process::readable(self.ours.line.as_fd(), i32::try_from(left)?);
            ensure!(arrived.context("poll")?, "the other process tells nothing");
            let byte = fds::read_byte(self.ours.line.as_raw_fd()).context("the pipe")?;
            match byte.context("the other process is gone")? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        match line.as_slice() {
            [] => Ok(None),
            [WRONG, rest @ ..] => bail!("another process: {}", String::from_utf8_lossy(rest)),
            line => Ok(Some(serde_json::from_slice(line)?)),
        }
    }

    /// Keeps the ends that the others depend on, and the others to be waited for; what they share
    /// with this process is closed.
    pub(crate) fn keep(self, run: &mut Run, others: impl IntoIterator<Item = i32>) {
        run.held.extend([self.ours.line, self.ours.end]);
        run.offspring.extend(others);
    }
}

impl Side {
    /// The ends that a program finds which was started with them.
    pub(crate) fn inherited(line: RawFd, end: RawFd) -> Result<Self> {
        Ok(Self {
            line: fds::adopt(line).context("the pipe to the first process")?,
            end: fds::adopt(end).context("the pipe from the first process")?,
        })
    }

    /// Does its part, tells, and stays as long as the first process does; the exit status.
    pub(crate) fn stay(&self, part: impl FnOnce() -> Result<Facts>) -> i32 {
        let told = part().and_then(|facts| Ok(serde_json::to_string(&facts)? + "\n"));
        let well = told.is_ok();
        let line = told.map_or_else(|error| complaint(&error), String::into_bytes);
        let stayed = fds::write(self.line.as_raw_fd(), &line)
            .and_then(|()| fds::read_byte(self.end.as_raw_fd()));
        i32::from(!well || stayed.is_err())
    }
}

/// The line that tells what went wrong.
fn complaint(error: &anyhow::Error) -> Vec<u8> {
    let text = format!("{error:#}").replace('\n', " ");
    [&[WRONG], text.as_bytes(), b"\n"].concat()
}
