//! A seccomp filter that hands one system call to a supervisor.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::{check, owned};

/// `SECCOMP_ADDFD_FLAG_SETFD` (include/uapi/linux/seccomp.h), as wide as the member that it goes into.
const ADDFD_FLAG_SETFD: u32 = 1;

/// Stops every later `getppid` of this process and its children; the supervisor's descriptor.
pub(crate) fn stop_getppid() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the flag is what lets a process without privileges filter.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let getppid = u32::try_from(libc::SYS_getppid).map_err(io::Error::other)?;
    let step = |code: u32, k, jt, jf| {
        // The codes are 16 bits wide by definition.
        u16::try_from(code).map(|code| libc::sock_filter { code, jt, jf, k })
    };
    // The number of the call is the first word of what a filter looks at.
    let program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, getppid, 0, 1),
        step(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_USER_NOTIF,
            0,
            0,
        ),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let mut program = program
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the program and its description outlive the call; the kernel copies them.
    owned(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) })
}

/// The supervisor's side: waits for the stopped call, and puts a descriptor into the target, at this number or at a
/// free one.
///
/// The stopped call is answered in any case; the result is the one of putting the descriptor in.
pub(crate) fn add_fd_to_target(listener: BorrowedFd, place: Option<u32>) -> io::Result<i32> {
    let listener = listener.as_raw_fd();
    // SAFETY: the structure is plain numbers; the kernel insists on zeroes.
    let mut stopped: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills in a structure of this very type.
    check(unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut stopped) })?;
    let wanted = libc::seccomp_notif_addfd {
        id: stopped.id,
        flags: if place.is_some() { ADDFD_FLAG_SETFD } else { 0 },
        srcfd: 0,
        newfd: place.unwrap_or(0),
        newfd_flags: 0,
    };
    // SAFETY: the kernel reads a structure of this very type.
    let added =
        unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const wanted) };
    let added = check(added);
    let mut answer = libc::seccomp_notif_resp {
        id: stopped.id,
        val: 0,
        error: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads a structure of this very type.
    check(unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) })?;
    added
}
