//! Calls that make descriptors, or copy them to a number of the caller's choice.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use super::{check, owned};

/// `openat` of `/dev/null`.
pub(crate) fn openat() -> io::Result<OwnedFd> {
    openat_path(c"/dev/null", libc::O_RDONLY)
}

/// `openat` of any path; a file that is made is the owner's.
pub(crate) fn openat_path(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path is a string that ends in NUL.
    owned(unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags, 0o600) })
}

/// `socket` for a Unix stream, which needs no network.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) })
}

/// `dup` of standard input.
pub(crate) fn dup() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::dup(0) })
}

/// `dup` of standard input, with these words in the registers of a second and third argument, which it does not have.
pub(crate) fn dup_with([second, third]: [u64; 2]) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_dup, 0, second, third) };
    owned(libc::c_int::try_from(fd).unwrap_or(-1))
}

/// A failing `dup` of standard input, without the cost of keeping the error: what storms repeat.
pub(crate) fn dup_fails_with(errno: i32) -> bool {
    // SAFETY: no memory is involved.
    let returned = unsafe { libc::dup(0) };
    returned == -1 && io::Error::last_os_error().raw_os_error() == Some(errno)
}

/// `fcntl(0, F_DUPFD, minimum)`.
pub(crate) fn f_dupfd(minimum: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::fcntl(0, libc::F_DUPFD, minimum) })
}

/// `dup2`; the numbers are raw because the scenarios pass ones that are not open.
pub(crate) fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// `dup` of any number; the copy's number.
pub(crate) fn dup_of(from: RawFd) -> io::Result<RawFd> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup(from) })
}

/// `fcntl(from, command, minimum)` for `F_DUPFD` or `F_DUPFD_CLOEXEC`; the copy's number.
pub(crate) fn dup_above(from: RawFd, command: i32, minimum: i32) -> io::Result<RawFd> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(from, command, minimum) })
}

/// `dup3` of a copy that exec closes.
pub(crate) fn dup3_cloexec(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }).map(drop)
}

/// Has exec close the number.
pub(crate) fn set_cloexec(number: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Whether exec closes the number.
pub(crate) fn is_cloexec(number: RawFd) -> io::Result<bool> {
    // SAFETY: no memory is involved.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    Ok(flags & libc::FD_CLOEXEC != 0)
}

/// `close` of a number that no value of this program owns.
pub(crate) fn close(number: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::close(number) }).map(drop)
}

/// `close_range` over numbers that no value of this program owns.
pub(crate) fn close_range(first: RawFd, last: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Owns a number that is open and that nothing else owns: one from before exec.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    is_cloexec(number)?;
    owned(number)
}

/// Writes all of it, or fails.
pub(crate) fn write(number: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes outlive the call.
    let written = unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
    if usize::try_from(written) == Ok(bytes.len()) {
        return Ok(());
    }
    check(i64::try_from(written).unwrap_or(-1))?;
    Err(io::ErrorKind::WriteZero.into())
}

/// Reads one byte, or `None` at the end.
pub(crate) fn read_byte(number: RawFd) -> io::Result<Option<u8>> {
    let mut byte = 0u8;
    // SAFETY: there is room for one byte.
    let read = unsafe { libc::read(number, (&raw mut byte).cast(), 1) };
    let read = check(i64::try_from(read).unwrap_or(-1))?;
    Ok((read == 1).then_some(byte))
}

/// Sleeps so many milliseconds with select.
pub(crate) fn select_sleep(milliseconds: i32) -> io::Result<()> {
    let mut time = libc::timeval {
        tv_sec: 0,
        tv_usec: libc::suseconds_t::from(milliseconds) * 1_000,
    };
    let none = ptr::null_mut();
    // SAFETY: no sets, and a time of its own.
    check(unsafe { libc::select(0, none, none, none, &raw mut time) })?;
    Ok(())
}

/// Waits with select until a number below `count` can be read.
pub(crate) fn select_readable(count: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: plain data, of which no bit is set.
    let mut set: libc::fd_set = unsafe { mem::zeroed() };
    // SAFETY: the numbers of standard descriptors fit.
    unsafe { libc::FD_SET(number, &raw mut set) };
    let none = ptr::null_mut();
    // SAFETY: the set outlives the call, and has room for `count` numbers.
    check(unsafe { libc::select(count, &raw mut set, none, none, none.cast()) })?;
    Ok(())
}

/// `mkfifo` for the owner.
pub(crate) fn mkfifo(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is a string that ends in NUL.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

/// `dup3` without flags.
pub(crate) fn dup3(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::dup3(from, to, 0) }).map(drop)
}

/// `epoll_create1`.
pub(crate) fn epoll_create1() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::epoll_create1(0) })
}

/// `memfd_create`.
pub(crate) fn memfd_create() -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends in NUL.
    owned(unsafe { libc::memfd_create(c"gym".as_ptr(), 0) })
}

/// `eventfd2`.
pub(crate) fn eventfd2() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::eventfd(0, 0) })
}

/// `timerfd_create`.
pub(crate) fn timerfd_create() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })
}

/// `signalfd4` for an empty set of signals.
pub(crate) fn signalfd4() -> io::Result<OwnedFd> {
    // SAFETY: a set of signals is plain bits; none of them set is the empty set.
    let nothing: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the set outlives the call.
    owned(unsafe { libc::signalfd(-1, &raw const nothing, 0) })
}

/// `inotify_init1`.
pub(crate) fn inotify_init1() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::inotify_init1(0) })
}

/// `fanotify_init` for a group that only notifies.
pub(crate) fn fanotify_init() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe {
        libc::syscall(
            libc::SYS_fanotify_init,
            libc::FAN_CLASS_NOTIF,
            libc::O_RDONLY,
        )
    })
}

/// `pidfd_open` of the caller itself.
pub(crate) fn pidfd_open() -> io::Result<OwnedFd> {
    let own = std::process::id();
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, own, 0) })
}

/// `mq_open` of a queue that is made with the default size and number of messages.
///
/// glibc's `mq_open` checks the name's slash and strips it; the system call wants none.
pub(crate) fn mq_open(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let attributes = ptr::null::<libc::mq_attr>();
    // SAFETY: the name ends in NUL; a null pointer asks for the default attributes.
    owned(unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, 0o600, attributes) })
}

/// `mq_unlink`.
pub(crate) fn mq_unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in NUL.
    check(unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) }).map(drop)
}

/// `pipe2`: its reading and its writing end.
pub(crate) fn pipe2() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: there is room for two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), 0) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

/// `socketpair` of Unix streams.
pub(crate) fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: there is room for two numbers.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

/// `accept4` that does not ask who has connected.
pub(crate) fn accept4(listener: BorrowedFd) -> io::Result<OwnedFd> {
    let number = listener.as_raw_fd();
    // SAFETY: null pointers say that the peer's address is not wanted.
    owned(unsafe { libc::accept4(number, ptr::null_mut(), ptr::null_mut(), 0) })
}

/// Whether the number is open in the calling thread's table.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Closes one number.
pub(crate) fn close_number(number: RawFd) -> io::Result<()> {
    // SAFETY: the caller does not use what it owns under this number again.
    check(unsafe { libc::close(number) }).map(drop)
}

/// Closes every descriptor from `first` up to the highest that a limit allows.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called before anything in this program owns a descriptor above standard error.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}
