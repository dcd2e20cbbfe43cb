//! Files that arrive from elsewhere: out of a message, from another process, through `io_uring`.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};

use super::{Scenario, full_table::listener_with_client};
use crate::{
    ends::Ends,
    report::{Facts, offered},
    run::Run,
    sys::{
        fds,
        message::{self, Arrived},
        passing, process,
        ring::Ring,
    },
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    passing(
        "receive_many",
        "receives 250 files in one message, and closes some",
        receive_many,
    ),
    passing(
        "receive_truncated",
        "receives files with room for a few of them",
        receive_truncated,
    ),
    passing(
        "receive_peek",
        "looks at a message with files, again and again, and takes it",
        receive_peek,
    ),
    passing(
        "pidfd_getfd",
        "takes files out of another process",
        pidfd_getfd,
    ),
    passing(
        "peer_pidfd",
        "asks sockets for their peers' pidfds",
        peer_pidfd,
    ),
    passing(
        "io_uring_table",
        "opens, accepts and closes by io_uring, with and without numbers",
        io_uring_table,
    ),
];

/// A scenario of this family, which holds still under its own name.
const fn passing(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run) -> Result<Facts>,
) -> Scenario {
    Scenario::new(name, about, run).named().staying().at(1024)
}

/// Files in the message: fewer than `SCM_MAX_FD` (253, include/net/scm.h).
const MANY: usize = 250;

/// Sends so many files into a pair of sockets; its other end.
fn sent(run: &mut Run, count: usize) -> Result<OwnedFd> {
    let (sending, receiving) = fds::socketpair().context("socketpair")?;
    let file = fds::openat().context("openat")?;
    let files = vec![file.as_fd(); count];
    message::send_all(sending.as_fd(), &files).context("sendmsg")?;
    run.held.push(sending);
    Ok(receiving)
}

/// Every third file is closed again.
fn receive_many(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    let receiving = sent(run, MANY)?;
    let arrived = message::receive_all(receiving.as_fd(), MANY, 0).context("recvmsg")?;
    ensure!(
        arrived.files.len() == MANY && !arrived.truncated,
        "{} of {MANY} files came",
        arrived.files.len()
    );
    let files = arrived.files.into_iter().enumerate();
    run.held
        .extend(files.filter_map(|(index, file)| (index % 3 > 0).then_some(file)));
    run.held.push(receiving);
    run.still("recvmsg")
}

/// What finds no room is dropped by the kernel before it gets a number.
fn receive_truncated(run: &mut Run) -> Result<Facts> {
    const ROOM: usize = 10;
    run.gate()?;
    let receiving = sent(run, MANY)?;
    let Arrived { files, truncated } =
        message::receive_all(receiving.as_fd(), ROOM, 0).context("recvmsg")?;
    ensure!(
        files.len() == ROOM && truncated,
        "{} files came, truncated: {truncated}",
        files.len()
    );
    run.held.extend(files);
    run.held.push(receiving);
    run.still("recvmsg")
}

/// Each look gives the files new numbers.
fn receive_peek(run: &mut Run) -> Result<Facts> {
    const COUNT: usize = 5;
    run.gate()?;
    let receiving = sent(run, COUNT)?;
    for flags in [libc::MSG_PEEK, libc::MSG_PEEK, 0] {
        let arrived = message::receive_all(receiving.as_fd(), COUNT, flags).context("recvmsg")?;
        ensure!(arrived.files.len() == COUNT, "not all files came");
        run.held.extend(arrived.files);
    }
    run.held.push(receiving);
    run.still("recvmsg")
}

fn pidfd_getfd(run: &mut Run) -> Result<Facts> {
    let ends = Ends::new()?;
    let theirs = fds::memfd_create().context("memfd_create")?;
    run.gate()?;
    let child = process::fork_into(|| ends.stay_bare()).context("fork")?;
    ensure!(ends.hear()?.is_none(), "the child tells too much");
    let process = offered("pidfd_open", passing::pidfd_open(child))?;
    for _ in 0..5 {
        let file = passing::pidfd_getfd(process.as_fd(), theirs.as_raw_fd());
        run.held.push(offered("pidfd_getfd", file)?);
    }
    run.held.pop();
    run.held.extend([theirs, process]);
    ends.keep(run, [child]);
    run.still("pidfd_getfd")
}

/// The option makes an fd (6.5).
fn peer_pidfd(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    let (one, other) = fds::socketpair().context("socketpair")?;
    for socket in [&one, &other, &one] {
        let pidfd = offered("SO_PEERPIDFD", passing::peer_pidfd(socket.as_fd()))?;
        run.held.push(pidfd);
    }
    run.held.extend([one, other]);
    run.still("getsockopt")
}

/// What stays: the ring, the listener with its client, an opened, an accepted and an installed file.
fn io_uring_table(run: &mut Run) -> Result<Facts> {
    let mut missing = Vec::new();
    let listener = listener_with_client(run)?;
    let mut ring = offered("io_uring_setup", Ring::new())?;
    run.gate()?;
    for _ in 0..3 {
        run.held.push(ring.openat_owned().context("openat")?);
    }
    run.held
        .push(ring.accept_owned(listener.as_fd()).context("accept")?);
    let closed = run.held.swap_remove(run.held.len() - 2);
    ring.close(closed).context("close")?;
    let used = run.used()?;
    let is_direct = ring.open_direct();
    ensure!(run.used()? == used, "a file without a number has taken one");
    match is_direct {
        Err(error) => missing.push(format!("direct descriptors: {error}")),
        Ok(()) => match ring.install() {
            Err(error) => missing.push(format!("FIXED_FD_INSTALL: {error}")),
            Ok(file) => run.held.push(file),
        },
    }
    run.held.push(listener.into());
    let mut facts = run.still("io_uring_enter")?;
    facts.note = (!missing.is_empty()).then(|| format!("not here: {}", missing.join(", ")));
    // Its number was counted: it stays as long as the process does.
    std::mem::forget(ring);
    Ok(facts)
}
