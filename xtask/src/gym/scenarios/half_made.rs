//! Copies of tables in a crowd, and copies that come to nothing.

use std::{fs::File, io::Read as _};

use anyhow::{Context as _, Result, ensure};

use super::{
    Scenario,
    tables::{open, staying_thread},
};
use crate::{
    ends::Ends,
    report::{Facts, offered},
    run::{Run, must_fail},
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "fork_crowd",
        "--count processes with 300 fds fork at once on one CPU",
        fork_crowd,
    )
    .named()
    .staying()
    .at(512),
    Scenario::new(
        "fork_fails",
        "forks fail when the table is copied, and the next one gets its memory",
        fork_fails,
    )
    .named()
    .staying(),
    Scenario::new(
        "unshare_fails",
        "a thread's table is copied for an unshare that fails",
        unshare_fails,
    )
    .named()
    .staying(),
];

/// Each of the processes has one child, which stays as well.
fn fork_crowd(run: &mut Run) -> Result<Facts> {
    const OPENED: usize = 300;
    let ends = Ends::new()?;
    open(run, OPENED)?;
    let count = run.options.count.unwrap_or(60);
    let cpu = *process::cpus()?.first().context("there is no CPU")?;
    let (start, starts) = fds::pipe2().context("pipe2")?;
    let mut starts = Some(starts);
    run.gate()?;
    let mut children = Vec::new();
    for _ in 0..count {
        let child = process::fork_into(|| {
            drop(starts.take());
            let waited = process::run_on(cpu).and_then(|()| {
                let mut nothing = Vec::new();
                File::from(start.try_clone()?).read_to_end(&mut nothing)
            });
            if waited.is_err() || process::fork_into(|| ends.stay_bare()).is_err() {
                return 1;
            }
            ends.stay_bare()
        });
        children.push(child.context("fork")?);
    }
    drop((starts, start));
    for _ in 0..2 * count {
        ensure!(ends.hear()?.is_none(), "a child told more than it can");
    }
    ends.keep(run, children.iter().copied());
    let mut facts = run.still("fork")?;
    facts.children = children;
    Ok(facts)
}

/// The number that is asked for is taken, which shows after the table has been copied (`copy_process` in
/// kernel/fork.c).
fn fork_fails(run: &mut Run) -> Result<Facts> {
    const STAYING: usize = 5;
    let ends = Ends::new()?;
    open(run, 20)?;
    run.gate()?;
    let fail = || {
        let outcome = offered("clone3 with a number", process::clone3_as(process::id()));
        outcome.and_then(|outcome| must_fail("clone3", outcome, libc::EEXIST))
    };
    for _ in 0..run.options.count.unwrap_or(200) {
        fail()?;
        let pid = i32::try_from(process::clone().context("clone")?)?;
        let status = process::wait_for(pid).context("waitpid")?;
        ensure!(status == Some(0), "child {pid} did not end well");
    }
    let mut children = Vec::new();
    for _ in 0..STAYING {
        fail()?;
        children.push(process::fork_into(|| ends.stay_bare()).context("fork")?);
        ensure!(ends.hear()?.is_none(), "a child told more than it can");
    }
    ends.keep(run, children.iter().copied());
    let mut facts = run.still("clone3")?;
    facts.children = children;
    Ok(facts)
}

/// The thread may not have a namespace of its own, which shows after the table has been copied (`ksys_unshare` ibid.).
fn unshare_fails(run: &mut Run) -> Result<Facts> {
    open(run, 20)?;
    run.gate()?;
    let count = run.options.count.unwrap_or(200);
    staying_thread(move || {
        process::become_nobody().context("setresuid")?;
        for _ in 0..count {
            let outcome = process::unshare(libc::CLONE_FILES | libc::CLONE_NEWUTS);
            must_fail("unshare", outcome, libc::EPERM)?;
        }
        Ok(())
    })?;
    open(run, 5)?;
    run.still("unshare")
}
