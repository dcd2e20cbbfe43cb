//! Limits, the name and the user of the calling process.

use std::{io, mem};

use super::check;

/// The descriptor limit: soft and hard.
pub(crate) fn nofile() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft descriptor limit and leaves the hard one.
pub(crate) fn set_nofile(soft: u64) -> io::Result<()> {
    let (_, hard) = nofile()?;
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Sets the soft limit on descriptors and the hard one; the hard one is raised by root alone.
pub(crate) fn set_nofile_and_hard(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel reads a structure of this very type.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Sets how many bytes of message queues the user may have, as this process sees it.
pub(crate) fn set_msgqueue(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MSGQUEUE, &raw const limit) }).map(drop)
}

/// The calling thread's name, as the kernel holds it: any bytes but NUL.
pub(crate) fn comm() -> io::Result<Vec<u8>> {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, the last of them NUL.
    check(unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) })?;
    Ok(name.into_iter().take_while(|&byte| byte != 0).collect())
}

/// Names the calling thread; the kernel keeps the first 15 bytes.
pub(crate) fn set_comm(name: &[u8]) -> io::Result<()> {
    let mut padded = [0u8; 16];
    for (place, byte) in padded.iter_mut().take(15).zip(name) {
        *place = *byte;
    }
    // SAFETY: the buffer ends in NUL and outlives the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, padded.as_ptr()) }).map(drop)
}

/// Becomes the user and group `id` for good, with no other groups and no capabilities left.
pub(crate) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: an empty list of groups is not read.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setresgid(id, id, id) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setresuid(id, id, id) }).map(drop)
}

/// Lets the signals that end a process by hand pass by.
pub(crate) fn ignore_signals() -> io::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: the structure is plain data; zero is the default action without flags.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = libc::SIG_IGN;
        // SAFETY: the structure outlives the call, and the former action is not wanted.
        check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}
