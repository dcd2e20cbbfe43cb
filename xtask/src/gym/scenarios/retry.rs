//! Running out, waiting for somebody to do something about it, and going on.

use std::{
    io::{self, Read as _},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result};

use super::{
    Scenario,
    system_wide::{NOBODY, until_error},
};
use crate::{
    report::Facts,
    run::{Run, must_fail},
    sys::{fds, limits},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "retry_dup",
        "runs out of numbers; once standard input has ended it gets more",
        |run| retry(run, "dup", fds::dup),
    ),
    Scenario::new(
        "retry_inotify",
        "the same with a user's inotify instances",
        |run| {
            limits::become_user(NOBODY).context("cannot become nobody")?;
            retry(run, "inotify_init1", fds::inotify_init1)
        },
    )
    .at(4096),
];

/// More than one, for which a limit is not raised.
const MORE: usize = 8;

fn retry(run: &mut Run, call: &str, make: fn() -> io::Result<OwnedFd>) -> Result<Facts> {
    run.gate()?;
    let result = until_error(run, make);
    must_fail(call, result, libc::EMFILE)?;
    let facts = run.facts(call, 1, Some(libc::EMFILE))?;
    let mut rest = Vec::new();
    io::stdin()
        .read_to_end(&mut rest)
        .context("standard input")?;
    for _ in 0..MORE {
        let more = make().with_context(|| format!("{call} fails as before"))?;
        run.held.push(more);
    }
    Ok(facts)
}
