//! Changes a system-wide setting for an instant, and puts it back whatever becomes of the victim.
//!
//! A process of its own does the writing. It keeps root's rights when the victim gives them up,
//! and it restores the value as soon as its pipe from the victim closes: at the end, but also
//! when the victim panics, aborts or is killed. It does not wait for longer than [`PATIENCE_MS`]
//! either, because the whole machine feels a changed setting.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    report::offered,
    sys::{fds, limits, process},
};

/// How long a setting may stay changed.
const PATIENCE_MS: i32 = 5_000;

/// The victim's hold on the process that does the writing.
pub(crate) struct Keeper {
    /// Wishes go in here.
    wishes: File,
    /// A byte comes out of here for each wish that was fulfilled.
    answers: File,
    /// The process itself.
    pub(crate) pid: i32,
}

impl Keeper {
    /// Starts the keeper of `/proc/sys/fs/NAME`; without the right to write there the scenario
    /// is one to skip.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let path = format!("/proc/sys/fs/{name}");
        let setting = offered(&path, File::options().read(true).write(true).open(&path))?;
        // Two of them at once would take each other's lowered value for the one to restore.
        setting
            .lock()
            .with_context(|| format!("cannot lock {path}"))?;
        let (keeper_reads, wishes) = fds::pipe2().context("pipe2")?;
        let (answers, keeper_writes) = fds::pipe2().context("pipe2")?;
        let (mut wishes, mut answers) = (Some(File::from(wishes)), Some(File::from(answers)));
        let pid = process::fork_into(|| {
            // The victim's ends: as long as this copy is open, the pipe would never close.
            drop((wishes.take(), answers.take()));
            i32::from(serve(&setting, keeper_reads, keeper_writes).is_err())
        })
        .context("fork")?;
        let wishes = wishes.take().context("the pipe to the keeper")?;
        let answers = answers.take().context("the pipe from the keeper")?;
        Ok(Self {
            wishes,
            answers,
            pid,
        })
    }

    /// Writes `value`; back only once it is in force.
    pub(crate) fn set(&mut self, value: u64) -> Result<()> {
        self.wishes
            .write_all(&value.to_ne_bytes())
            .context("the keeper is gone")?;
        self.answers
            .read_exact(&mut [0])
            .context("the keeper could not write the setting")
    }

    /// Has the value restored; back only once it is. The pipes stay open, so that what is open
    /// can still be counted as it was at the call.
    pub(crate) fn restore(&mut self) -> Result<()> {
        self.wishes
            .write_all(&[0])
            .context("the keeper did not wait")?;
        let status = process::wait_for(self.pid).context("waiting for the keeper")?;
        ensure!(
            status == Some(0),
            "the keeper failed to restore the setting"
        );
        Ok(())
    }
}

/// The keeper's life: one wish at most, then the original value again.
fn serve(setting: &File, wishes: OwnedFd, answers: OwnedFd) -> io::Result<()> {
    limits::ignore_signals()?;
    process::setsid()?;
    let (mut wishes, mut answers) = (File::from(wishes), File::from(answers));
    let mut original = [0u8; 64];
    let length = setting.read_at(&mut original, 0)?;
    let original = &original[..length];
    let mut wish = [0u8; 8];
    if wishes.read_exact(&mut wish).is_err() {
        return Ok(());
    }
    let value = u64::from_ne_bytes(wish);
    // Never zero, which stands for "no limit" where it is allowed.
    setting.write_all_at(format!("{value}\n").as_bytes(), 0)?;
    // Whether or not the victim is still there to hear it, the value goes back.
    let _ = answers.write_all(&[1]);
    let _ = process::readable(wishes.as_fd(), PATIENCE_MS);
    setting.write_all_at(original, 0)
}

/// The present value of `/proc/sys/fs/NAME`: the first number in it.
pub(crate) fn setting(name: &str) -> Result<u64> {
    let path = format!("/proc/sys/fs/{name}");
    let text = offered(&path, std::fs::read_to_string(&path))?;
    let first = text
        .split_whitespace()
        .next()
        .with_context(|| format!("{path} is empty"))?;
    first
        .parse()
        .with_context(|| format!("{path} says {first}"))
}
