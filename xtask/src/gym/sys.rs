//! The system calls that std does not offer, each under the name the kernel knows it by.
//!
//! libc's own function is used where glibc passes the call on unchanged; `libc::syscall` where
//! glibc would make another call, or has no function for it.
#![expect(unsafe_code, reason = "a scenario is about one exact system call")]

pub(crate) mod fds;
pub(crate) mod fuse;
pub(crate) mod kinds;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod passing;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod seccomp;

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

/// Turns the -1 of a system call into the error it stands for.
fn check<T: Into<i64> + Copy>(returned: T) -> io::Result<T> {
    if returned.into() == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned)
}

/// Owns the descriptor that a successful call has just returned.
fn owned<T: Into<i64> + Copy>(returned: T) -> io::Result<OwnedFd> {
    let number = check(returned)?.into();
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed this number out, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
