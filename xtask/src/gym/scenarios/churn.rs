//! Everything at once, until it is told to hold still.

use std::{
    env,
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    report::Facts,
    run::Run,
    sys::{fds, message, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[Scenario::new(
    "churn",
    "8 processes open, close, pass, fork and execute, with --wait until told to hold still",
    churn,
)
.at(1024)
.staying()];

/// Processes that do it.
const PROCESSES: usize = 8;
/// Descriptors that one of them keeps at most.
const KEPT: usize = 100;

/// The first process only starts the others, stops them, and waits until all hold still.
fn churn(run: &mut Run) -> Result<Facts> {
    let (stop, stops) = fds::pipe2().context("pipe2")?;
    let (held, holds) = fds::pipe2().context("pipe2")?;
    let (end, ends) = fds::pipe2().context("pipe2")?;
    let mut stops = Some(stops);
    let mut ends = Some(ends);
    let mut children = Vec::new();
    for seed in 0..PROCESSES {
        let child = process::fork_into(|| {
            drop((stops.take(), ends.take()));
            let outcome = work(seed as u64, &stop).and_then(|kept| hold_still(&kept, &holds, &end));
            i32::from(outcome.is_err())
        });
        children.push(child.context("fork")?);
    }
    run.gate()?;
    drop((stops, holds));
    let mut still = Vec::new();
    File::from(held)
        .read_to_end(&mut still)
        .context("the pipe from the children")?;
    ensure!(still.len() == PROCESSES, "a child has ended too early");
    run.held.extend(ends);
    run.offspring.clone_from(&children);
    let mut facts = run.facts("openat", 0, None)?;
    facts.children = children;
    Ok(facts)
}

/// Says that nothing changes any more, and stays until the first process ends.
fn hold_still(_kept: &[OwnedFd], holds: &OwnedFd, end: &OwnedFd) -> Result<()> {
    File::from(holds.try_clone()?).write_all(b"x")?;
    // What says that this process holds still must close, or the first one waits for ever.
    fds::close_number(holds.as_raw_fd())?;
    File::from(end.try_clone()?).read_to_end(&mut Vec::new())?;
    process::exit_now(0)
}

/// Changes the table in one way after the other until `stop` is closed; what is open then.
fn work(seed: u64, stop: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let mut random = seed * 2_654_435_761 + 1;
    let mut kept: Vec<OwnedFd> = Vec::new();
    let (one, other) = fds::socketpair()?;
    while !process::readable(stop.as_fd(), 0)? {
        // A linear congruential generator: the order is to vary, nothing more.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match (random >> 33) % 16 {
            0..=3 => kept.push(fds::openat()?),
            4 => kept.push(fds::dup()?),
            5 => kept.push(fds::eventfd2()?),
            6 => kept.push(fds::memfd_create()?),
            7 => kept.extend(<[OwnedFd; 2]>::from(fds::pipe2()?)),
            8 => kept.extend(<[OwnedFd; 2]>::from(fds::socketpair()?)),
            9 => {
                if let [.., from, to] = kept.as_slice() {
                    fds::dup2(from.as_raw_fd(), to.as_raw_fd())?;
                }
            }
            10 => {
                message::send(one.as_fd(), stop.as_fd())?;
                kept.extend(message::receive(other.as_fd())?.fd);
            }
            11 if (random >> 40).is_multiple_of(8) => {
                offspring(&mut kept, (random >> 50).is_multiple_of(2))?;
            }
            _ => {
                if !kept.is_empty() {
                    let index = (random >> 20) as usize % kept.len();
                    kept.swap_remove(index);
                }
            }
        }
        if kept.len() > KEPT {
            kept.truncate(KEPT / 2);
        }
    }
    Ok(kept)
}

/// A child that closes some and ends, or becomes another program first.
fn offspring(kept: &mut Vec<OwnedFd>, executes: bool) -> Result<()> {
    let child = process::fork_into(|| {
        kept.truncate(3);
        if executes {
            let mut next = Command::new(env::current_exe().unwrap_or_else(|_| "/bin/true".into()));
            let _ = next.arg("list").stdout(Stdio::null()).exec();
        }
        0
    })?;
    process::wait_for(child)?;
    Ok(())
}
