//! What a table holds when it has run out, read while the thread that ran into it is still in its call:
//! a moment later it may be gone, and its table with it.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns};
use fdtrace_common::{
    held::{HELD_MAX, HeldRecord, UNIX_KEPT},
    record::RECORD_HELD,
};

use crate::{
    HAS_LOOP, identity,
    kernel::{self, Address, Table, member, offset, read},
    repeat::{Turn, repeat},
    ring,
};

/// `AF_UNIX` and `AF_INET6`.
const AF_UNIX: u16 = 1;
const AF_INET6: u16 = 10;

/// Tells every open slot of a table, up to [`HELD_MAX`] of them. A function of its own, so that each
/// program holds its code once. Kernels without `bpf_loop` would have to walk all of it in the verifier:
/// there, nothing is told.
#[inline(never)]
pub(crate) fn tell(files: Address) {
    if !HAS_LOOP {
        return;
    }
    let table = Table::of(files);
    let slots = table.max_fds();
    let mut walk = Walk {
        files,
        pointers: table.pointers(),
    };
    let times = if slots > HELD_MAX { HELD_MAX } else { slots };
    repeat::<1, _>(times, &mut walk);
}

/// Goes from slot to slot.
struct Walk {
    files: Address,
    pointers: Address,
}

impl Turn for Walk {
    #[inline(always)]
    fn turn(&mut self, fd: u32) {
        let file: Address = read(self.pointers + u64::from(fd) * 8);
        if file == 0 {
            return;
        }
        let Some(mut entry) = ring::reserve::<HeldRecord>() else {
            return;
        };
        let record = entry.as_mut_ptr();
        let thread = bpf_get_current_pid_tgid();
        // SAFETY: `record` points to a whole reserved record; each member is written.
        unsafe {
            let slot = &raw mut (*record).slot;
            (&raw mut (*slot).kind).write(RECORD_HELD);
            (&raw mut (*slot).fd).write(fd);
            (&raw mut (*slot).time_ns).write(bpf_ktime_get_boot_ns());
            (&raw mut (*slot).files).write(self.files);
            (&raw mut (*slot).file).write(file);
            (&raw mut (*slot).replaced).write(0);
            (&raw mut (*slot).tgid).write((thread >> 32) as u32);
            (&raw mut (*slot).tid).write(thread as u32);
            (&raw mut (*slot).uid).write(0);
            (&raw mut (*slot).call).write(0);
            (&raw mut (*slot).flags).write(0);
            identity::fill(slot, file);
            fill_ends(record, file, (&raw const (*slot).family).read());
        }
        ring::submit(entry);
    }
}

/// Where a socket leads to; everything is 0 where `family` is.
///
/// # Safety
///
/// `record` must be a whole record.
#[inline(always)]
unsafe fn fill_ends(record: *mut HeldRecord, file: Address, family: u16) {
    let socket: Address = if family == 0 {
        0
    } else {
        member(file, &offset::FILE_PRIVATE)
    };
    let sock: Address = member(socket, &offset::SOCKET_SOCK);
    let mut remote = [0_u8; 16];
    if family == AF_INET6 {
        remote = member(sock, &offset::SOCK_REMOTE6);
    } else if family != AF_UNIX {
        let address: [u8; 4] = member(sock, &offset::SOCK_REMOTE4);
        [remote[0], remote[1], remote[2], remote[3]] = address;
    }
    let (mut local_port, mut remote_port) = (0_u16, 0_u16);
    if family != AF_UNIX {
        local_port = member(sock, &offset::SOCK_PORT);
        remote_port = u16::from_be(member(sock, &offset::SOCK_REMOTE_PORT));
    }
    // A socket that has connected has no name of its own; its other end has.
    let unix = if family == AF_UNIX { sock } else { 0 };
    let own: Address = member(unix, &offset::UNIX_ADDRESS);
    let peer: Address = member(unix, &offset::UNIX_PEER);
    let other: Address = member(peer, &offset::UNIX_ADDRESS);
    let address = if own == 0 { other } else { own };
    let length: u32 = member(address, &offset::ADDRESS_LENGTH);
    // `sockaddr_un` starts with the family.
    let path = address + u64::from(offset::ADDRESS_NAME.load()) + 2;
    // SAFETY: the caller's promise; each member is written.
    unsafe {
        (&raw mut (*record).remote).write(remote);
        (&raw mut (*record).remote_port).write(remote_port);
        (&raw mut (*record).local_port).write(local_port);
        (&raw mut (*record).unix_length).write(length.saturating_sub(2));
        kernel::copy((&raw mut (*record).unix).cast(), UNIX_KEPT as u32, path);
    }
}
