//! A program that waits with select(2), which has room for the fds below 1024.

use anyhow::{Context as _, Result};

use super::Scenario;
use crate::{report::Facts, run::Run, sys::fds};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "select_dup",
        "waits in select with nine tenths of its numbers taken, then runs out of them",
        run_out,
    )
    .at(1_024)
    .staying(),
    Scenario::new(
        "select_sleep",
        "sleeps in select, without sets, and runs out",
        sleep,
    )
    .at(1_024)
    .staying(),
];

fn run_out(run: &mut Run) -> Result<Facts> {
    let used = run.soft - run.soft / 10;
    run.fill_to(used, fds::dup)?;
    let count = i32::try_from(used)?;
    run.gate_by(|| fds::select_readable(count, 0).context("select"))?;
    run.fill_but(0)?;
    let result = fds::dup();
    run.full("dup", result, run.soft)
}

fn sleep(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    run.fill_but(0)?;
    fds::select_sleep(20).context("select")?;
    let result = fds::dup();
    run.full("dup", result, run.soft)
}
