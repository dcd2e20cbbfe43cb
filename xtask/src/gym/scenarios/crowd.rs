//! Many processes, one after the other and several at once, that run out on different CPUs and end.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    report::Facts,
    run::Run,
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[Scenario::new(
    "crowd",
    "for --seconds, --count processes at once fail on different CPUs, in bursts and storms, and end",
    crowd,
)
.named()];

/// Processes at once, unless `--count` says otherwise.
const AT_ONCE: u64 = 32;
/// How long processes are started, in seconds, unless `--seconds` says otherwise.
const SECONDS: u64 = 10;

/// What one of them does: failures in a row, by length, each row on the next CPU, with a pause in between.
struct Course {
    rows: &'static [u64],
    pause: Duration,
}

/// The next process takes the next one.
const COURSES: &[Course] = &[
    // One failure on one CPU, and gone.
    Course {
        rows: &[1],
        pause: Duration::ZERO,
    },
    Course {
        rows: &[10, 1, 7, 22],
        pause: Duration::from_millis(30),
    },
    // A storm that moves.
    Course {
        rows: &[15_000, 1, 15_000],
        pause: Duration::ZERO,
    },
    // Longer than the second between two reports.
    Course {
        rows: &[5, 5, 1],
        pause: Duration::from_millis(700),
    },
    Course {
        rows: &[3],
        pause: Duration::ZERO,
    },
];

impl Course {
    fn failures(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// In a process of its own: its exit status.
    fn take(&self, run: &mut Run, cpus: &[usize], first: usize) -> i32 {
        i32::from(self.fail(run, cpus, first).is_err())
    }

    fn fail(&self, run: &mut Run, cpus: &[usize], first: usize) -> Result<()> {
        run.fill_but(0)?;
        for (row, cpu) in self.rows.iter().zip(cpus.iter().cycle().skip(first)) {
            process::run_on(*cpu).context("sched_setaffinity")?;
            for _ in 0..*row {
                ensure!(
                    fds::dup_fails_with(libc::EMFILE),
                    "dup did not fail with EMFILE"
                );
            }
            thread::sleep(self.pause);
        }
        Ok(())
    }
}

/// Counts what they have been told to fail; one that could not makes it all fail.
fn crowd(run: &mut Run) -> Result<Facts> {
    let at_once = run.options.count.unwrap_or(AT_ONCE);
    let time = Duration::from_secs(run.options.seconds.unwrap_or(SECONDS));
    let cpus = process::cpus().context("sched_getaffinity")?;
    run.gate()?;
    let end = Instant::now() + time;
    let mut living = VecDeque::new();
    let (mut failures, mut number) = (0, 0);
    while Instant::now() < end {
        for course in COURSES {
            let first = number % cpus.len();
            let child = process::fork_into(|| course.take(run, &cpus, first)).context("fork")?;
            living.push_back(child);
            failures += course.failures();
            number += 1;
        }
        while living.len() as u64 > at_once {
            wait_for_one(&mut living)?;
        }
    }
    while !living.is_empty() {
        wait_for_one(&mut living)?;
    }
    let mut facts = run.facts("dup", failures, Some(libc::EMFILE))?;
    facts.operations = u64::try_from(number).ok();
    facts.note = Some(format!("{number} processes on {} CPUs", cpus.len()));
    Ok(facts)
}

fn wait_for_one(living: &mut VecDeque<i32>) -> Result<()> {
    if let Some(pid) = living.pop_front() {
        let status = process::wait_for(pid).context("waitpid")?;
        ensure!(
            status == Some(0),
            "process {pid} did not fail as it should have"
        );
    }
    Ok(())
}
