//! Exhaustions that are over when fdtrace comes to report what it has held back of them.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::Scenario;
use crate::{
    report::Facts,
    run::{Run, must_fail},
    sys::fds,
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "bursts",
        "fills the table, fails 50 times, closes all of it, --count times, --seconds apart",
        bursts,
    )
    .at(128),
    Scenario::new(
        "leak_to_end",
        "opens a file every 40 ms, fails six times at once, and ends",
        leak_to_end,
    )
    .at(150),
];

/// Between two bursts the table holds what the program was started with.
fn bursts(run: &mut Run) -> Result<Facts> {
    const FAILURES: u64 = 50;
    let bursts = run.options.count.unwrap_or(4);
    let pause = Duration::from_secs(run.options.seconds.unwrap_or(2));
    run.gate()?;
    for burst in 0..bursts {
        if burst > 0 {
            run.held.clear();
            thread::sleep(pause);
        }
        run.fill_to(run.soft, fds::openat)?;
        for _ in 0..FAILURES {
            must_fail("openat", fds::openat(), libc::EMFILE)?;
        }
    }
    let facts = run.facts("openat", bursts * FAILURES, Some(libc::EMFILE))?;
    run.held.clear();
    // Longer than a report is held back.
    thread::sleep(pause);
    Ok(facts)
}

/// Six seconds: enough to tell a leak.
fn leak_to_end(run: &mut Run) -> Result<Facts> {
    const FAILURES: u64 = 6;
    run.gate()?;
    while run.used()? < run.soft {
        run.held.push(fds::openat().context("while leaking")?);
        thread::sleep(Duration::from_millis(40));
    }
    for _ in 0..FAILURES {
        must_fail("openat", fds::openat(), libc::EMFILE)?;
    }
    run.facts("openat", FAILURES, Some(libc::EMFILE))
}
