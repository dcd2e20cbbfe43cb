//! Limits of the whole machine, lowered for an instant: `fs.nr_open` and `fs.file-max`.

use std::{io, os::fd::OwnedFd};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    keeper::{Keeper, setting},
    report::{Facts, Skip, offered},
    run::{Run, must_fail},
    sys::{fds, limits, process},
};

/// As high as the default hard limit of a kernel: what is lowered stays out of others' way.
const LIMIT: u64 = 4096;

/// Slots come in words of a bitmap, and `fs.nr_open` is rounded to them.
const WORD: u64 = 64;

/// The user without rights; root is exempt from `fs.file-max`.
pub(super) const NOBODY: u32 = 65534;

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "fork_nr_open",
        "fs.nr_open below what is open: clone fails",
        fork_nr_open,
    )
    .at(LIMIT),
    Scenario::new(
        "open_nr_open",
        "fs.nr_open below the limit: openat fails",
        open_nr_open,
    )
    .at(LIMIT),
    Scenario::new(
        "f_dupfd_far",
        "F_DUPFD of a number that no table can hold, below the limit",
        f_dupfd_far,
    ),
    Scenario::new(
        "unix_sockets",
        "beyond twice fs.file-max unix sockets, as root: ENFILE",
        unix_sockets,
    )
    .at(1024),
    Scenario::new(
        "file_max",
        "openat beyond fs.file-max, as nobody: ENFILE",
        |run| file_max(run, "openat", fds::openat),
    )
    .at(LIMIT),
    Scenario::new(
        "file_max_socket",
        "socket beyond fs.file-max, as nobody: ENFILE",
        |run| file_max(run, "socket", fds::socket),
    )
    .at(LIMIT),
];

/// The child's table would have to be as large as the parent's, which the setting forbids.
fn fork_nr_open(run: &mut Run) -> Result<Facts> {
    ensure!(
        run.soft.is_multiple_of(WORD) && run.soft > 2 * WORD,
        "--limit has to be a multiple of {WORD} above {}",
        2 * WORD
    );
    let mut keeper = Keeper::of("nr_open")?;
    let used = run.soft - WORD / 2;
    let lowered = run.soft - WORD;
    run.fill_to(used, fds::dup)?;
    run.gate()?;
    keeper.set(lowered)?;
    let result = process::clone();
    keeper.restore()?;
    must_fail("clone", result, libc::EMFILE)?;
    let mut facts = run.facts("clone", 1, Some(libc::EMFILE))?;
    ensure!(
        facts.used == used,
        "{} descriptors are open instead of {used}",
        facts.used
    );
    facts.children = vec![keeper.pid];
    facts.note = Some(format!("fs.nr_open {lowered}"));
    Ok(facts)
}

/// Tables grow by doubling; at a power of two the next number needs a larger one.
fn open_nr_open(run: &mut Run) -> Result<Facts> {
    let lowered = run.soft / 2;
    ensure!(
        lowered.is_power_of_two() && lowered >= 4 * WORD,
        "--limit has to be a power of two from {}",
        8 * WORD
    );
    let mut keeper = Keeper::of("nr_open")?;
    run.fill_to(lowered, fds::dup)?;
    run.gate()?;
    keeper.set(lowered)?;
    let result = fds::openat();
    keeper.restore()?;
    must_fail("openat", result, libc::EMFILE)?;
    let mut facts = run.facts("openat", 1, Some(libc::EMFILE))?;
    ensure!(
        facts.used == lowered,
        "the table is not as full as the setting allows"
    );
    facts.children = vec![keeper.pid];
    facts.note = Some(format!("fs.nr_open {lowered}"));
    Ok(facts)
}

/// The table would be larger than the kernel makes any, whatever `fs.nr_open` and the limit allow.
fn f_dupfd_far(run: &mut Run) -> Result<Facts> {
    const NUMBER: i32 = 200_000_000;
    let limit = u64::from(NUMBER.unsigned_abs()) + WORD;
    let mut keeper = Keeper::of("nr_open")?;
    let before = limits::nofile().context("getrlimit")?;
    run.gate()?;
    keeper.set(limit.next_power_of_two())?;
    let result = offered("so high a limit", limits::set_nofile_and_hard(limit, limit))
        .map(|()| fds::f_dupfd(NUMBER));
    limits::set_nofile_and_hard(before.0, before.1).context("setrlimit")?;
    keeper.restore()?;
    let result = result?;
    if let Err(error) = &result
        && error.raw_os_error() == Some(libc::ENOMEM)
    {
        return Err(Skip(format!("EMFILE of so large a table: {error}")).into());
    }
    must_fail("fcntl", result, libc::EMFILE)?;
    let mut facts = run.facts("fcntl", 1, Some(libc::EMFILE))?;
    facts.soft = limit;
    facts.children = vec![keeper.pid];
    Ok(facts)
}

/// Root is exempt from `fs.file-max`, and not from this. The setting is lowered far below what is open here
/// already, so that the first call fails.
fn unix_sockets(run: &mut Run) -> Result<Facts> {
    let mut keeper = Keeper::of("file-max")?;
    run.fill_to(run.soft / 2, fds::socket)?;
    run.gate()?;
    keeper.set(run.soft / 8)?;
    let result = fds::socket();
    keeper.restore()?;
    if let Err(error) = &result
        && error.raw_os_error() == Some(libc::ENOMEM)
    {
        return Err(Skip(format!("ENFILE of unix sockets: {error}")).into());
    }
    must_fail("socket", result, libc::ENFILE)?;
    let mut facts = run.facts("socket", 1, Some(libc::ENFILE))?;
    facts.children = vec![keeper.pid];
    Ok(facts)
}

/// The kernel counts open files per CPU and sums up only near the limit, so how many fit is not
/// known beforehand: it opens until it fails.
///
/// It has many open before the setting is lowered. A small guest would otherwise show 0, and
/// with that Unix sockets fail by a rule of their own: no more of them than twice the setting.
fn file_max(run: &mut Run, call: &str, make: fn() -> io::Result<OwnedFd>) -> Result<Facts> {
    let mut keeper = Keeper::of("file-max")?;
    limits::become_user(NOBODY).context("cannot become nobody")?;
    // An initramfs with a root directory that is root's alone would spoil the rest.
    run.held
        .push(make().with_context(|| format!("{call} fails for nobody as it is"))?);
    run.fill_to(run.soft / 8, make)?;
    run.gate()?;
    let lowered = setting("file-nr")?.max(run.soft / 16);
    keeper.set(lowered)?;
    let result = until_error(run, make);
    keeper.restore()?;
    must_fail(call, result, libc::ENFILE)?;
    let mut facts = run.facts(call, 1, Some(libc::ENFILE))?;
    ensure!(facts.used < run.soft, "its own limit came first");
    facts.children = vec![keeper.pid];
    facts.note = Some(format!("fs.file-max {lowered}"));
    Ok(facts)
}

/// Makes descriptors until one fails; that error.
pub(super) fn until_error(run: &mut Run, make: fn() -> io::Result<OwnedFd>) -> io::Result<()> {
    loop {
        run.held.push(make()?);
    }
}
