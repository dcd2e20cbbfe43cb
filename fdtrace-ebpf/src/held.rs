//! What a table holds when it has run out, read while the thread that ran into it is still in its call:
//! a moment later it may be gone, and its table with it.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns};
use fdtrace_common::{
    alarm::HOOK_SYS_EXIT,
    held::{HELD_MAX, HeldRecord, UNIX_KEPT, WHOLE},
    record::RECORD_HELD,
};

use crate::{
    HAS_LOOP, control, identity,
    kernel::{self, Address, Offset as _, Table, member, offset, read},
    peer,
    repeat::{Turn, repeat},
    ring,
};

/// The tick that a session begins with.
const FIRST_TICK: u64 = 1;
/// `st_mode`'s type bits, and a socket's.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// `AF_UNIX` and `AF_INET6`.
const AF_UNIX: u16 = 1;
const AF_INET6: u16 = 10;

/// Tells every open slot of a table, up to [`HELD_MAX`] of them. Kernels without `bpf_loop` would have to walk all of it in the verifier:
/// there, nothing is told.
#[inline(always)]
pub(crate) fn tell(files: Address, hook: u32) {
    if !HAS_LOOP {
        return;
    }
    // Where every change is followed only the ends of sockets are missing, and a program that takes its
    // time keeps itself from others' calls where kernels preempt it. In the first moments nothing has been
    // followed yet.
    let is_whole = hook == HOOK_SYS_EXIT || control::tick() <= FIRST_TICK;
    let table = Table::of(files);
    let mut walk = Walk {
        files,
        pointers: table.pointers(),
        flags: if is_whole { WHOLE } else { 0 },
    };
    repeat::<HELD_MAX, _>(table.max_fds(), &mut walk);
}

/// Goes from slot to slot.
struct Walk {
    files: Address,
    pointers: Address,
    flags: u32,
}

impl Turn for Walk {
    #[inline(always)]
    fn turn(&mut self, fd: u64) {
        let file: Address = read(self.pointers + fd * 8);
        if file == 0 {
            return;
        }
        if self.flags != WHOLE {
            let inode: Address = member(file, &offset::FILE_INODE);
            if member::<u16>(inode, &offset::INODE_MODE) & S_IFMT != S_IFSOCK {
                return;
            }
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
            (&raw mut (*slot).fd).write(fd as u32);
            (&raw mut (*slot).time_ns).write(bpf_ktime_get_boot_ns());
            (&raw mut (*slot).files).write(self.files);
            (&raw mut (*slot).file).write(file);
            (&raw mut (*slot).tgid).write((thread >> 32) as u32);
            (&raw mut (*slot).tid).write(thread as u32);
            (&raw mut (*slot).uid).write(0);
            (&raw mut (*slot).call).write(0);
            (&raw mut (*slot).flags).write(self.flags);
            identity::fill(slot, file);
            (&raw mut (*slot).replaced).write(peer::of(file, slot));
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
        (&raw mut (*record).unix_length).write(length.saturating_sub(2) as u16);
        (&raw mut (*record).state).write(member(sock, &offset::SOCK_STATE));
        (&raw mut (*record).shutdown).write(member(sock, &offset::SOCK_SHUTDOWN));
        kernel::copy((&raw mut (*record).unix).cast(), UNIX_KEPT as u32, path);
    }
}
