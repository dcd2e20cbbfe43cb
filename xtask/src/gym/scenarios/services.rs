//! Small services, each of which works for some seconds: five leak, five only have much to do.
//!
//! All run into their limit, and say what the table was full of when they first did.

mod busy;
mod leaking;
mod server;

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Scenario;
use crate::{
    report::{Facts, Holder},
    run::{Run, must_fail},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    leaks(
        "leak_file",
        "keeps each file that it has read",
        leaking::file,
    ),
    leaks(
        "leak_connection",
        "keeps each connection whose server has closed it",
        leaking::connection,
    ),
    leaks(
        "leak_early_return",
        "closes most files, and returns early from the others",
        leaking::early_return,
    ),
    leaks(
        "leak_event_loop",
        "a server that forgets connections whose client has gone",
        leaking::event_loop,
    ),
    leaks(
        "leak_pipe_end",
        "forks children, and keeps its end of each one's pipe",
        leaking::pipe_end,
    ),
    is_busy(
        "busy_crawler",
        "wants more connections at once than it may have",
        busy::crawler,
    ),
    is_busy(
        "busy_pool",
        "a pool of connections near the limit, often replaced",
        busy::pool,
    ),
    is_busy(
        "busy_bursts",
        "opens much for an instant, and closes all of it",
        busy::bursts,
    ),
    is_busy(
        "busy_cache",
        "keeps the files used last, of more than there is room for",
        busy::cache,
    ),
    is_busy(
        "busy_cgi",
        "a child with a pipe for each request",
        busy::cgi,
    )
    .at(64),
];

const fn leaks(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run) -> Result<Facts>,
) -> Scenario {
    Scenario::new(name, about, run).at(LIMIT).named().staying()
}

const fn is_busy(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run) -> Result<Facts>,
) -> Scenario {
    leaks(name, about, run)
}

/// Their limit: with one fd kept for each of [`LEAK_EVERY`], reached in ten seconds.
const LIMIT: u64 = 200;
/// What leaks, loses one in this time.
const LEAK_EVERY: Duration = Duration::from_millis(50);

/// A beat to work by.
struct Pace {
    next: Instant,
    every: Duration,
    makes_up: bool,
}

impl Pace {
    /// What was missed is made up for, so that the rate is the same on slow machines.
    fn new(every: Duration) -> Self {
        Self {
            next: Instant::now(),
            every,
            makes_up: true,
        }
    }

    /// What was missed is not: a machine that stalls makes no burst of it.
    fn even(every: Duration) -> Self {
        Self {
            makes_up: false,
            ..Self::new(every)
        }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        if !self.makes_up {
            self.next = self.next.max(now);
        }
        self.next += self.every;
    }
}

/// A program's file: the only one that every machine has for certain.
fn own_program() -> Result<PathBuf> {
    env::current_exe().context("/proc/self/exe")
}

/// Opens a file to read.
fn open(path: &PathBuf) -> io::Result<OwnedFd> {
    File::open(path).map(OwnedFd::from)
}

/// Is it for want of a number?
fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

/// The facts of a service that has run into its limit, and what it held then; standard fds that are pipes
/// count among pipes.
fn ran_out(run: &Run, call: &str, failures: u64, mut holder: Holder) -> Result<Facts> {
    if holder.kind == "pipe" {
        holder.count += (0..3).map(|fd| u64::from(is_pipe(fd))).sum::<u64>();
    }
    let mut facts = run.facts(call, failures, Some(libc::EMFILE))?;
    facts.holder = Some(holder);
    Ok(facts)
}

/// Not one with a name, which is another kind.
fn is_pipe(fd: i32) -> bool {
    let target = fs::read_link(format!("/proc/self/fd/{fd}"));
    target.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
}

/// Serves one request after the other, each of which leaves an fd open, until one fails for want of a number.
fn until_full(
    run: &mut Run,
    call: &str,
    kind: &str,
    target: Option<String>,
    mut serve: impl FnMut() -> io::Result<OwnedFd>,
) -> Result<Facts> {
    let (start, mut count) = (Instant::now(), 0);
    let mut pace = Pace::even(LEAK_EVERY);
    let error = loop {
        pace.wait();
        match serve() {
            Ok(kept) => run.held.push(kept),
            Err(error) => break error,
        }
        count += 1;
    };
    let took = start.elapsed();
    must_fail::<()>(call, Err(error), libc::EMFILE)?;
    let holder = Holder {
        kind: kind.to_owned(),
        target,
        count,
    };
    let mut facts = ran_out(run, call, 1, holder)?;
    facts.ns = Some(u64::try_from(took.as_nanos())?);
    facts.operations = Some(count);
    Ok(facts)
}
