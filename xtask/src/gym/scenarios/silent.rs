//! Exhaustion that no system call of the victim returns.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};

use super::{Scenario, full_table::listener_with_client};
use crate::{
    report::{Facts, Skip, offered},
    run::{Run, must_fail},
    sys::{fds, message, process, ring::Ring, seccomp},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "scm_rights",
        "receives a message whose descriptor is dropped",
        scm_rights,
    ),
    Scenario::new(
        "io_uring_openat",
        "EMFILE in the completion of an open",
        io_uring_openat,
    ),
    Scenario::new(
        "io_uring_accept",
        "EMFILE in the completion of an accept",
        io_uring_accept,
    ),
    Scenario::new(
        "io_uring_full_table",
        "ENFILE in the completion of an open into the ring's own table",
        io_uring_full_table,
    ),
    Scenario::new(
        "io_uring_passed_file",
        "ENFILE in the completion of a file passed into another ring's full table",
        io_uring_passed_file,
    ),
    Scenario::new(
        "seccomp_addfd",
        "a supervisor fails to put a descriptor into it",
        seccomp_addfd,
    ),
    Scenario::new(
        "seccomp_addfd_above",
        "a supervisor fails to put a descriptor above its limit: EBADF",
        seccomp_addfd_above,
    ),
    Scenario::new(
        "seccomp_own_open",
        "openat fails by itself under a filter with a supervisor",
        seccomp_own_open,
    ),
];

/// `recvmsg` succeeds; a flag is all that tells of the loss.
fn scm_rights(run: &mut Run) -> Result<Facts> {
    let (sending, receiving) = fds::socketpair().context("socketpair")?;
    message::send(sending.as_fd(), fds::dup()?.as_fd()).context("sendmsg")?;
    run.fill_but(0)?;
    run.gate()?;
    let message = message::receive(receiving.as_fd()).context("recvmsg")?;
    ensure!(
        message.bytes == 1,
        "{} bytes came instead of one",
        message.bytes
    );
    ensure!(
        message.fd.is_none(),
        "a descriptor came through a full table"
    );
    ensure!(
        message.truncated,
        "the message does not say that something is missing"
    );
    let mut facts = run.facts("recvmsg", 1, None)?;
    ensure!(facts.used == run.soft, "the table is not full");
    facts.note = Some("MSG_CTRUNC".to_owned());
    Ok(facts)
}

/// The call is the one that submits; the operation is in the note.
fn io_uring_openat(run: &mut Run) -> Result<Facts> {
    let mut ring = offered("io_uring_setup", Ring::new())?;
    run.fill_but(0)?;
    run.gate()?;
    let result = ring.openat().context("io_uring_enter")?;
    completion(run, "IORING_OP_OPENAT", result)
}

/// With a connection waiting, so that nothing is put off.
fn io_uring_accept(run: &mut Run) -> Result<Facts> {
    let listener = listener_with_client(run)?;
    let mut ring = offered("io_uring_setup", Ring::new())?;
    run.fill_but(0)?;
    run.gate()?;
    let result = ring.accept(listener.as_fd()).context("io_uring_enter")?;
    completion(run, "IORING_OP_ACCEPT", result)
}

/// Insists on EMFILE in the completion.
fn completion(run: &Run, operation: &str, result: i32) -> Result<Facts> {
    ensure!(
        result == -libc::EMFILE,
        "the completion of {operation} carries {result}"
    );
    let mut facts = run.facts("io_uring_enter", 1, Some(libc::EMFILE))?;
    ensure!(facts.used == run.soft, "the table is not full");
    facts.note = Some(operation.to_owned());
    Ok(facts)
}

/// The ring has room for one file, and opens two. No number is asked for.
fn io_uring_full_table(run: &mut Run) -> Result<Facts> {
    let mut ring = offered("io_uring_setup", Ring::new())?;
    ring.register_empty_files(1).context("io_uring_register")?;
    let first = ring.open_into_own_table().context("io_uring_enter")?;
    // Kernels before 5.19 choose no place.
    if first == -libc::EINVAL {
        return Err(Skip("the ring's own table: it chooses no place".to_owned()).into());
    }
    ensure!(first >= 0, "the first open: {first}");
    run.gate()?;
    let result = ring.open_into_own_table().context("io_uring_enter")?;
    ensure!(result == -libc::ENFILE, "the completion carries {result}");
    let mut facts = run.facts("io_uring_enter", 1, Some(libc::ENFILE))?;
    facts.note = Some("IORING_OP_OPENAT".to_owned());
    // Closing the ring would be seen as well.
    std::mem::forget(ring);
    Ok(facts)
}

/// The other ring has room for one file, and is passed two (`IORING_OP_MSG_RING`, 6.0). The failure is the
/// sender's.
fn io_uring_passed_file(run: &mut Run) -> Result<Facts> {
    let other = offered("io_uring_setup", Ring::new())?;
    other.register_empty_files(1).context("io_uring_register")?;
    let mut ring = offered("io_uring_setup", Ring::new())?;
    ring.open_direct().context("a file of the ring's own")?;
    let first = ring.pass_file(&other).context("io_uring_enter")?;
    if first == -libc::EINVAL {
        return Err(Skip("files passed from ring to ring".to_owned()).into());
    }
    ensure!(first >= 0, "the first file passed: {first}");
    run.gate()?;
    let result = ring.pass_file(&other).context("io_uring_enter")?;
    ensure!(result == -libc::ENFILE, "the completion carries {result}");
    let mut facts = run.facts("io_uring_enter", 1, Some(libc::ENFILE))?;
    facts.note = Some("IORING_OP_MSG_RING".to_owned());
    // Closing the rings would be seen as well.
    std::mem::forget((ring, other));
    Ok(facts)
}

/// The target is full and in `getppid`; the EMFILE is its supervisor's, in `ioctl`.
fn seccomp_addfd(run: &mut Run) -> Result<Facts> {
    let mut facts = addfd_fails(run, None, libc::EMFILE, |run| run.fill_but(0))?;
    ensure!(facts.used == run.soft, "the table is not full");
    facts.note = Some("the supervisor's call; this process was in getppid".to_owned());
    Ok(facts)
}

/// The supervisor wants a number that the target's limit does not allow.
fn seccomp_addfd_above(run: &mut Run) -> Result<Facts> {
    let above = u32::try_from(run.soft)?;
    addfd_fails(run, Some(above), libc::EBADF, |_| Ok(()))
}

/// The supervisor's ioctl fails while the target is in `getppid`.
fn addfd_fails(
    run: &mut Run,
    place: Option<u32>,
    errno: i32,
    prepare: fn(&mut Run) -> Result<()>,
) -> Result<Facts> {
    let listener = offered("seccomp listener", seccomp::stop_getppid())?;
    let supervisor = process::fork_into(|| {
        // It would wait for ever for the call of a target that was killed before.
        let added = process::die_with_parent()
            .and_then(|()| seccomp::add_fd_to_target(listener.as_fd(), place));
        i32::from(must_fail("ioctl", added, errno).is_err())
    })
    .context("fork")?;
    drop(listener);
    prepare(run)?;
    run.gate()?;
    process::getppid();
    let status = process::wait_for(supervisor).context("waitpid")?;
    ensure!(
        status == Some(0),
        "the supervisor's ioctl did not fail as it should"
    );
    let mut facts = run.facts("ioctl", 1, Some(errno))?;
    facts.children = vec![supervisor];
    Ok(facts)
}

/// The filter stops another call than the one that fails: this process is told.
fn seccomp_own_open(run: &mut Run) -> Result<Facts> {
    let listener = offered("seccomp listener", seccomp::stop_getppid())?;
    run.held.push(listener);
    run.fill_but(0)?;
    run.gate()?;
    run.full("openat", fds::openat(), run.soft)
}
