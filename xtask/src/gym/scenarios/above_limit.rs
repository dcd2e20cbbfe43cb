//! `dup2` and `dup3` onto numbers that cannot be: the kernel answers EBADF at the limit, as it
//! does for plain mistakes.

use std::{io, os::fd::RawFd};

use anyhow::Result;

use super::Scenario;
use crate::{
    report::Facts,
    run::{Run, must_fail},
    sys::fds,
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("dup2", "dup2 onto a number above the limit: EBADF", |run| {
        above(run, DUP2, fds::dup2)
    }),
    Scenario::new("dup3", "dup3 onto a number above the limit: EBADF", |run| {
        above(run, "dup3", fds::dup3)
    }),
    Scenario::new(
        "dup2_bad_source",
        "dup2 from a number that is not open: no exhaustion",
        |run| mistake(run, 999, 1),
    ),
    Scenario::new("dup2_negative", "dup2 onto -1: no exhaustion", |run| {
        mistake(run, 0, -1)
    }),
];

/// The call that glibc's `dup2` makes: newer architectures have `dup3` only.
const DUP2: &str = if cfg!(target_arch = "x86_64") {
    "dup2"
} else {
    "dup3"
};

/// The limit is the reason, although next to nothing is open.
fn above(run: &mut Run, call: &str, copy: fn(RawFd, RawFd) -> io::Result<()>) -> Result<Facts> {
    let target = i32::try_from(run.soft)? + 1;
    run.gate()?;
    must_fail(call, copy(0, target), libc::EBADF)?;
    run.facts(call, 1, Some(libc::EBADF))
}

/// The same errno for a reason that has nothing to do with limits.
fn mistake(run: &mut Run, from: RawFd, to: RawFd) -> Result<Facts> {
    run.gate()?;
    must_fail(DUP2, fds::dup2(from, to), libc::EBADF)?;
    run.facts(DUP2, 0, Some(libc::EBADF))
}
