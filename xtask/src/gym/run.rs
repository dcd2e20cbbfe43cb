//! What scenarios have in common: filling the table, the gate before the failing call, the checks.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cli::Options,
    report::{Facts, errno_name, say},
    sys::{fds, limits, process},
};

/// One scenario under way.
pub(crate) struct Run {
    /// The command line.
    pub(crate) options: Options,
    /// The soft limit on descriptors.
    pub(crate) soft: u64,
    /// Descriptors that stay open for as long as the process does.
    pub(crate) held: Vec<OwnedFd>,
    /// Processes to wait for at the end, which leave when a descriptor in `held` closes.
    pub(crate) offspring: Vec<i32>,
}

impl Run {
    /// Starts from a table that holds the three standard descriptors only, so that counts are
    /// exact whatever the starter had open; after exec, what is open is what there is to look at.
    ///
    /// A hard limit below the scenario's own has it make do with that.
    pub(crate) fn new(options: Options, default_limit: u64) -> Result<Self> {
        if !options.after_exec {
            fds::close_from(3).context("close_range")?;
        }
        let (_, hard) = limits::nofile().context("getrlimit")?;
        let soft = options.limit.unwrap_or(default_limit.min(hard));
        limits::set_nofile(soft).with_context(|| format!("cannot set the limit to {soft}"))?;
        Ok(Self {
            options,
            soft,
            held: Vec::new(),
            offspring: Vec::new(),
        })
    }

    /// The same scenario for a thread that gets a table of its own.
    pub(crate) fn for_thread(&self) -> Self {
        let options = self.options.clone();
        Self {
            options,
            soft: self.soft,
            held: Vec::new(),
            offspring: Vec::new(),
        }
    }

    /// Closes everything, and insists that the other processes end well.
    pub(crate) fn finish(self) -> Result<()> {
        drop(self.held);
        for pid in self.offspring {
            let status = process::wait_for(pid).context("waitpid")?;
            ensure!(status == Some(0), "process {pid} did not end well");
        }
        Ok(())
    }

    /// How many descriptors are open below the limit in the calling thread's table.
    ///
    /// Asked number by number, because listing `/proc/self/fd` takes a descriptor, and is not
    /// allowed any more to a process that has changed its user.
    pub(crate) fn used(&self) -> Result<u64> {
        let end = i32::try_from(self.soft)?;
        Ok((0..end).map(|number| u64::from(fds::is_open(number))).sum())
    }

    /// Makes descriptors until `used` are open; none of the calls fails.
    pub(crate) fn fill_to(
        &mut self,
        used: u64,
        make: impl Fn() -> io::Result<OwnedFd>,
    ) -> Result<()> {
        for _ in self.used()?..used {
            self.held.push(make().context("while filling the table")?);
        }
        let reached = self.used()?;
        ensure!(
            reached == used,
            "{reached} descriptors are open instead of {used}"
        );
        Ok(())
    }

    /// Fills the table with copies of standard input until only `free` numbers are left.
    pub(crate) fn fill_but(&mut self, free: u64) -> Result<()> {
        self.fill_to(self.soft - free, fds::dup)
    }

    /// With `--wait`: says that the victim is ready, and waits to be told to go on.
    pub(crate) fn gate(&self) -> Result<()> {
        self.gate_by(|| Ok(()))
    }

    /// The same, waiting in a way of its own until standard input can be read.
    pub(crate) fn gate_by(&self, wait: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.options.wait {
            say(&format!("ready {}", std::process::id()))?;
            wait()?;
            let mut line = String::new();
            io::stdin().read_line(&mut line).context("standard input")?;
        }
        Ok(())
    }

    /// The facts about the calling thread, which has just failed.
    pub(crate) fn facts(&self, call: &str, failures: u64, errno: Option<i32>) -> Result<Facts> {
        let used = self.used()?;
        Ok(Facts {
            pid: i32::try_from(std::process::id())?,
            tid: process::tid(),
            comm: String::from_utf8_lossy(&limits::comm()?).into_owned(),
            call: call.to_owned(),
            failures,
            errno: errno.map(errno_name),
            soft: self.soft,
            used,
            open: used,
            children: Vec::new(),
            kinds: BTreeMap::new(),
            ns: None,
            operations: None,
            holder: None,
            note: None,
        })
    }

    /// The facts about the calling process, which fails in nothing, and whose every number stands
    /// for an open file.
    pub(crate) fn still(&self, call: &str) -> Result<Facts> {
        self.still_reserving(call, 0)
    }

    /// The same with so many numbers that calls under way have taken and not filled yet.
    pub(crate) fn still_reserving(&self, call: &str, reserved: u64) -> Result<Facts> {
        let mut facts = self.facts(call, 0, None)?;
        facts.open = listed().unwrap_or(facts.used);
        ensure!(
            facts.open == facts.used,
            "{} descriptors are listed, and {} answer",
            facts.open,
            facts.used
        );
        facts.used += reserved;
        Ok(facts)
    }

    /// Raises or lowers the soft limit, to what the hard one allows at most.
    pub(crate) fn limit_to(&mut self, wanted: u64) -> Result<()> {
        let (_, hard) = limits::nofile().context("getrlimit")?;
        let soft = wanted.min(hard);
        limits::set_nofile(soft).with_context(|| format!("cannot set the limit to {soft}"))?;
        self.soft = soft;
        Ok(())
    }

    /// The open numbers from 3 up, in order.
    pub(crate) fn numbers(&self) -> Result<Vec<i32>> {
        let end = i32::try_from(self.soft)?;
        Ok((3..end).filter(|&number| fds::is_open(number)).collect())
    }

    /// The facts of one call that failed because the table is full, with `used` open.
    pub(crate) fn full<T>(&self, call: &str, result: io::Result<T>, used: u64) -> Result<Facts> {
        must_fail(call, result, libc::EMFILE)?;
        let facts = self.facts(call, 1, Some(libc::EMFILE))?;
        ensure!(
            facts.used == used,
            "{} descriptors are open instead of {used}",
            facts.used
        );
        Ok(facts)
    }
}

/// How many descriptors `/proc` lists for the process, but for the one it takes to list them.
fn listed() -> Option<u64> {
    let entries = u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    entries.checked_sub(1)
}

/// Asks again and again, for what has no event to wait for, until the answer is yes.
pub(crate) fn until(what: &str, mut reached: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !reached()? {
        ensure!(Instant::now() < end, "no end of waiting until {what}");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// How long anything may take that another thread or process does, in a slow guest.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Insists that a call has failed, with this errno.
pub(crate) fn must_fail<T>(call: &str, result: io::Result<T>, errno: i32) -> Result<()> {
    let Err(error) = result else {
        bail!("{call} succeeded, where {} was expected", errno_name(errno));
    };
    ensure!(
        error.raw_os_error() == Some(errno),
        "{call} failed with another error than {}: {error}",
        errno_name(errno)
    );
    Ok(())
}
