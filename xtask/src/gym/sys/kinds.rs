//! Calls that make the rarer kinds of descriptors.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::{check, owned};

/// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_ARRAY` (include/uapi/linux/bpf.h).
const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_DUMMY` (`include/uapi/linux/perf_event.h`).
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
/// `memfd_secret`, on all architectures that have it.
const SYS_MEMFD_SECRET: libc::c_long = 447;

/// `socket` of any family.
pub(crate) fn socket_of(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::socket(family, kind, protocol) })
}

/// A map with one entry.
pub(crate) fn bpf_map() -> io::Result<OwnedFd> {
    // Type, size of keys, size of values, entries: the first members of `union bpf_attr`.
    let attributes = [BPF_MAP_TYPE_ARRAY, 4, 4, 1];
    let size = size_of_val(&attributes);
    // SAFETY: the attributes outlive the call, and their size is the true one.
    owned(unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, attributes.as_ptr(), size) })
}

/// A counter of nothing, for the calling process.
pub(crate) fn perf_event() -> io::Result<OwnedFd> {
    // The first members of `struct perf_event_attr`: type and size, and what is counted. 64 bytes are
    // what the oldest kernels know of it (`PERF_ATTR_SIZE_VER0`).
    let mut attributes = [0_u64; 8];
    let size = size_of_val(&attributes) as u64;
    attributes[0] = u64::from(PERF_TYPE_SOFTWARE) | (size << 32);
    attributes[1] = PERF_COUNT_SW_DUMMY;
    let (own, any_cpu, no_group) = (0, -1, -1);
    // SAFETY: the attributes outlive the call, and tell their size.
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            own,
            any_cpu,
            no_group,
            0,
        )
    })
}

/// `userfaultfd` for faults in user mode.
pub(crate) fn userfaultfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | 1) })
}

/// `memfd_secret`.
pub(crate) fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(SYS_MEMFD_SECRET, 0) })
}

/// `mknod` of a block device, for the owner.
pub(crate) fn mknod_block(path: &CStr, major: u32, minor: u32) -> io::Result<()> {
    let device = libc::makedev(major, minor);
    // SAFETY: the path is a string that ends in NUL.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, device) }).map(drop)
}

/// Binds a datagram socket of the Internet to a free port of the loopback address.
pub(crate) fn bind_loopback(socket: BorrowedFd) -> io::Result<()> {
    // SAFETY: the structure is plain data; zeroes stand for any port.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).map_err(io::Error::other)?;
    address.sin_addr.s_addr = u32::from(std::net::Ipv4Addr::LOCALHOST).to_be();
    let size = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address outlives the call, and its size is the true one.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    check(outcome).map(drop)
}
