//! Making processes and tables, and waiting for them.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::check;

/// Forks; `child` runs in the new process, whose exit status is what it returns.
///
/// Only sound while the caller is the only thread: the child then is a whole copy.
pub(crate) fn fork_into(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: single-threaded, so no lock is held by a thread that the child does not have.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        exit_now(child());
    }
    Ok(pid)
}

/// `clone` as glibc's `fork` makes it, told apart from musl's `fork`; a child ends at once.
pub(crate) fn clone() -> io::Result<i64> {
    // SAFETY: without CLONE_VM the child has its own memory, and leaves before touching any.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    if pid == 0 {
        exit_now(0);
    }
    Ok(pid)
}

/// `clone3` that asks for a pidfd of the child; a child ends at once.
pub(crate) fn clone3_pidfd() -> io::Result<i64> {
    let mut pidfd = -1i32;
    // SAFETY: the structure is plain numbers; zero asks for nothing.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = libc::CLONE_PIDFD.unsigned_abs().into();
    wanted.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    wanted.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child has its own memory, and leaves before touching any.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut wanted, size) })?;
    if pid == 0 {
        exit_now(0);
    }
    Ok(pid)
}

/// Gives the calling thread a descriptor table of its own.
pub(crate) fn unshare_files() -> io::Result<()> {
    // SAFETY: the numbers that are open stay open in the copy.
    check(unsafe { libc::unshare(libc::CLONE_FILES) }).map(drop)
}

/// Ends the process without running anything else.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: nothing runs afterwards that could miss what has not been tidied up.
    unsafe { libc::_exit(status) }
}

/// Waits for a child's end; its exit status, or `None` if a signal ended it.
pub(crate) fn wait_for(pid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
}

/// The calling thread's number.
pub(crate) fn tid() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() }
}

/// `getppid`, which the seccomp scenario's filter stops.
pub(crate) fn getppid() {
    // SAFETY: no memory is involved.
    unsafe { libc::getppid() };
}

/// Starts a session, so that signals meant for the terminal's processes pass by.
pub(crate) fn setsid() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Waits until there is something to read, or the other end is closed; false after the time.
pub(crate) fn readable(fd: BorrowedFd, milliseconds: i32) -> io::Result<bool> {
    let mut wanted = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: there is one entry, as the count says.
    Ok(check(unsafe { libc::poll(&raw mut wanted, 1, milliseconds) })? > 0)
}

/// Has the calling process killed when the one that forked it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}
