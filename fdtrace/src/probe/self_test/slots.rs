//! fdtrace changes its own table, and looks into the slots each time.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    io::{dup, dup2, fcntl_dupfd_cloexec},
    thread::{UnshareFlags, gettid, unshare_unsafe},
};

use crate::probe::slots::{Opened, Slots};

/// This is for a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(2);
/// A number in another chunk than those in use, where the limit allows it.
const HIGH: i32 = 200;

/// Goes every way that has a hook of its own. The error names those on which something was missed.
pub(in crate::probe) fn run(slots: &Slots) -> Result<()> {
    let missed = Test::start(slots)
        .and_then(Test::all)
        .context("its self-test could not be done")?;
    if !missed.is_empty() {
        bail!(
            "its self-test failed: slots do not tell of {}",
            missed.join(", ")
        );
    }
    Ok(())
}

fn number(fd: &impl AsFd) -> u64 {
    u64::from(fd.as_fd().as_raw_fd().unsigned_abs())
}

struct Test<'a> {
    slots: &'a Slots,
    /// The address of the table.
    files: u64,
    file: File,
    missed: Vec<&'static str>,
}

impl<'a> Test<'a> {
    /// The table is the one in which this thread has just opened a file under this number.
    fn start(slots: &'a Slots) -> Result<Self> {
        let file = File::open("/dev/null")?;
        let place = number(&file);
        let own = own_tid();
        let is_own = |(fd, _, opened): &(u64, u64, Opened)| *fd == place && opened.tid == own;
        let part = slots
            .parts()
            .find(|part| slots.open(part).any(|slot| is_own(&slot)));
        let Some(part) = part else {
            bail!("no slot tells of an open");
        };
        Ok(Self {
            slots,
            files: part.files,
            file,
            missed: Vec::new(),
        })
    }

    /// What is missed.
    fn all(mut self) -> Result<Vec<&'static str>> {
        self.slots()?;
        self.table()?;
        Ok(self.missed)
    }

    /// The file in a slot of a table, and who has put it there.
    fn slot(&self, files: u64, fd: u64) -> Option<(u64, Opened)> {
        let mut parts = self.slots.parts().filter(|part| part.files == files);
        parts.find_map(|part| {
            let mut open = self.slots.open(&part);
            open.find(|(other, _, _)| *other == fd)
                .map(|(_, file, opened)| (file, opened))
        })
    }

    fn expect(&mut self, what: &'static str, holds: bool) {
        if !holds {
            self.missed.push(what);
        }
    }

    /// Is the test's file in a slot, put there by this thread?
    fn has(&self, fd: u64) -> bool {
        let file = self
            .slot(self.files, number(&self.file))
            .map(|(file, _)| file);
        self.slot(self.files, fd).is_some_and(|(other, opened)| {
            Some(other) == file && opened.tid == own_tid() && !opened.is_inherited
        })
    }

    #[expect(unsafe_code, reason = "a number that is closed here alone")]
    fn slots(&mut self) -> Result<()> {
        let mut copy = dup(&self.file)?;
        self.expect("dup", self.has(number(&copy)));
        let high = fcntl_dupfd_cloexec(&self.file, HIGH).or_else(|_| dup(&self.file))?;
        self.expect("fcntl(F_DUPFD)", self.has(number(&high)));
        let other = OwnedFd::from(File::open("/dev/zero")?);
        dup2(&other, &mut copy)?;
        let replaced = !self.has(number(&copy)) && self.slot(self.files, number(&copy)).is_some();
        self.expect("dup2 over an open fd", replaced);
        let place = number(&high);
        drop(high);
        self.expect("close", self.slot(self.files, place).is_none());
        // SAFETY: a free number, of which nobody else knows.
        let mut free = unsafe { OwnedFd::from_raw_fd(i32::try_from(place)?) };
        let outcome = dup2(&self.file, &mut free);
        if let Err(error) = outcome {
            std::mem::forget(free);
            return Err(error.into());
        }
        self.expect("dup2 onto a free number", self.has(place));
        Ok(())
    }

    /// A thread parts from the table, and ends.
    fn table(&mut self) -> Result<()> {
        let place = number(&self.file);
        let file = self.slot(self.files, place).map(|(file, _)| file);
        let (parted, has_parted) = mpsc::channel();
        let (end, wait) = mpsc::channel::<()>();
        #[expect(unsafe_code, reason = "a thread without fds of its own")]
        let thread = thread::spawn(move || {
            // SAFETY: the thread uses no fd, and no fd of it is used by another one.
            let outcome = unsafe { unshare_unsafe(UnshareFlags::FILES) };
            let _ = parted.send(outcome);
            // Nobody sends: it ends when the other side has looked.
            let _ = wait.recv();
        });
        has_parted.recv().context("the thread has ended")??;
        let is_copy = |files: &u64| {
            *files != self.files
                && self
                    .slot(*files, place)
                    .is_some_and(|(other, opened)| Some(other) == file && opened.is_inherited)
        };
        let copy = self.slots.parts().map(|part| part.files).find(is_copy);
        drop(end);
        if thread.join().is_err() {
            bail!("the thread has panicked");
        }
        self.expect("unshare", copy.is_some());
        // A thread is told to be gone a moment before it gives its table up.
        let deadline = Instant::now() + PATIENCE;
        let is_left = || copy.is_some_and(|files| self.slot(files, place).is_some());
        while is_left() && Instant::now() < deadline {
            thread::yield_now();
        }
        let is_gone = !is_left();
        self.expect("the end of a table", is_gone);
        Ok(())
    }
}

fn own_tid() -> u32 {
    u32::try_from(gettid().as_raw_nonzero().get()).unwrap_or_default()
}
