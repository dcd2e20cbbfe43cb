//! Calls that take files out of other processes.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use super::{check, owned};

/// `getsockopt`'s option for the peer's pidfd (include/uapi/asm-generic/socket.h, 6.5).
const SO_PEERPIDFD: i32 = 77;

/// `pidfd_open` of any process.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// `pidfd_getfd`: a copy of another process's file.
pub(crate) fn pidfd_getfd(process: BorrowedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// The pidfd of the process at a unix socket's other end.
pub(crate) fn peer_pidfd(socket: BorrowedFd) -> io::Result<OwnedFd> {
    let mut number: RawFd = -1;
    let mut size = libc::socklen_t::try_from(size_of::<RawFd>()).map_err(io::Error::other)?;
    // SAFETY: there is room for a number, and its size says so.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut number).cast(),
            &raw mut size,
        )
    };
    check(outcome)?;
    owned(mem::replace(&mut number, -1))
}
