//! Every open fd, by the kernel's own file iterator.

use aya_ebpf::{
    helpers::generated::{bpf_d_path, bpf_probe_read_kernel_str, bpf_seq_write},
    macros::map,
    maps::Array,
};
use fdtrace_common::{
    change::{MarkRecord, OpenRecord},
    file::{FileRecord, NAME_SIZE, PATH_SIZE, UNIX_SIZE},
    record::{RECORD_MARK, RECORD_SEEN},
};

use crate::{
    census::IteratorMeta,
    identity,
    kernel::{self, Address, Table, member, offset},
    ring, scope,
};

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`).
#[repr(C)]
struct TaskFileContext {
    meta: *const IteratorMeta,
    task: *const core::ffi::c_void,
    fd: u32,
    padding: u32,
    file: *const core::ffi::c_void,
}

/// A record with room for its path, too large for a program's stack.
#[repr(C)]
struct Room {
    record: FileRecord,
    path: [u8; PATH_SIZE],
}

/// One iterator runs at a time: fdtrace reads it to its end.
#[map]
static FILE_ROOM: Array<Room> = Array::with_max_entries(1, 0);

/// All open fds, with the full path of each.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_with_paths(context: *mut TaskFileContext) -> i32 {
    visit(context, true)
}

/// The same for kernels whose iterators may not ask for paths (before 5.12), and for counting.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_without_paths(context: *mut TaskFileContext) -> i32 {
    visit(context, false)
}

/// A record for a slot, too large for a program's stack.
#[map]
static SLOT_ROOM: Array<OpenRecord> = Array::with_max_entries(1, 0);

/// All open fds with no more than the model of tables wants, and a mark in the ring behind the last
/// one: whatever was told before it had happened before, or while, the iterator looked.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn slots_seen(context: *mut TaskFileContext) -> i32 {
    // SAFETY: as in `visit`.
    let (meta, task, fd, file) = unsafe {
        (
            (*context).meta,
            (*context).task as Address,
            (*context).fd,
            (*context).file as Address,
        )
    };
    if task == 0 || file == 0 {
        if let Some(mut entry) = ring::reserve::<MarkRecord>() {
            entry.write(MarkRecord {
                kind: RECORD_MARK,
                padding: 0,
            });
            ring::submit_now(entry);
        }
        return 0;
    }
    let Some(record) = SLOT_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map's one value, which nobody else uses while this iterator runs; each member is
    // written. `meta` and its `seq` are trusted pointers of the iterator.
    unsafe {
        (&raw mut (*record).kind).write(RECORD_SEEN);
        (&raw mut (*record).fd).write(fd);
        (&raw mut (*record).time_ns).write(0);
        (&raw mut (*record).files).write(member(task, &offset::TASK_FILES));
        (&raw mut (*record).file).write(file);
        (&raw mut (*record).replaced).write(0);
        (&raw mut (*record).tgid).write(member(task, &offset::TASK_TGID));
        (&raw mut (*record).tid).write(member(task, &offset::TASK_PID));
        (&raw mut (*record).uid).write(0);
        (&raw mut (*record).call).write(0);
        (&raw mut (*record).flags).write(0);
        identity::fill(record, file);
        bpf_seq_write(
            (*meta).seq,
            record.cast_const().cast(),
            size_of::<OpenRecord>() as u32,
        );
    }
    0
}

#[inline(always)]
fn visit(context: *mut TaskFileContext, with_path: bool) -> i32 {
    // SAFETY: the kernel passes a whole context; `task` and `file` are NULL after the last one.
    let (meta, task, fd, file) = unsafe {
        (
            (*context).meta,
            (*context).task as Address,
            (*context).fd,
            (*context).file,
        )
    };
    if task == 0 || file.is_null() {
        return 0;
    }
    let tgid: u32 = member(task, &offset::TASK_TGID);
    if !scope::lists(tgid) {
        return 0;
    }
    let Some(room) = FILE_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map's one value, which nobody else uses while this iterator runs.
    let record = unsafe { &raw mut (*room).record };
    fill(record, task, tgid, fd, file as Address);
    let mut length = 0;
    if with_path {
        // SAFETY: `file` is a trusted pointer, and its path lies at that offset; the buffer has
        // PATH_SIZE bytes. An errno is negative, and no length as a u32.
        let written = unsafe {
            let path = file.cast::<u8>().add(offset::FILE_PATH.load() as usize);
            bpf_d_path(
                path.cast_mut().cast(),
                (&raw mut (*room).path).cast(),
                PATH_SIZE as u32,
            )
        };
        let written = written as u32;
        if written <= PATH_SIZE as u32 {
            length = written;
        }
    }
    // SAFETY: as above; `meta` and its `seq` are trusted pointers of the iterator, and the record
    // lies directly before its path.
    unsafe {
        (&raw mut (*record).path_length).write(length);
        bpf_seq_write(
            (*meta).seq,
            room.cast_const().cast(),
            size_of::<FileRecord>() as u32 + length,
        )
    };
    0
}

#[inline(always)]
fn fill(record: *mut FileRecord, task: Address, tgid: u32, fd: u32, file: Address) {
    let files: Address = member(task, &offset::TASK_FILES);
    let inode: Address = member(file, &offset::FILE_INODE);
    let super_block: Address = member(inode, &offset::INODE_SUPER);
    let cred: Address = member(task, &offset::TASK_CRED);
    let dentry: Address = member(file, &offset::FILE_DENTRY);
    let mode: u16 = member(inode, &offset::INODE_MODE);
    // SAFETY: `record` is a whole record; each member is written.
    unsafe {
        (&raw mut (*record).files).write(files);
        (&raw mut (*record).file).write(file);
        (&raw mut (*record).inode).write(member(inode, &offset::INODE_NUMBER));
        (&raw mut (*record).tgid).write(tgid);
        (&raw mut (*record).tid).write(member(task, &offset::TASK_PID));
        (&raw mut (*record).uid).write(member(cred, &offset::CRED_UID));
        (&raw mut (*record).fd).write(fd);
        (&raw mut (*record).device).write(member(super_block, &offset::SUPER_DEV));
        (&raw mut (*record).rdev).write(member(inode, &offset::INODE_RDEV));
        (&raw mut (*record).magic).write(member(super_block, &offset::SUPER_MAGIC));
        (&raw mut (*record).mode).write(u32::from(mode));
        (&raw mut (*record).links).write(member(inode, &offset::INODE_LINKS));
        (&raw mut (*record).flags).write(member(file, &offset::FILE_FLAGS));
        (&raw mut (*record).file_mode).write(member(file, &offset::FILE_MODE));
        (&raw mut (*record).close_on_exec).write(Table::of(files).closes_on_exec(fd));
        (&raw mut (*record).comm).write(member(task, &offset::TASK_COMM));
        (&raw mut (*record).name).write([0; NAME_SIZE]);
        (&raw mut (*record).padding).write(0);
        bpf_probe_read_kernel_str(
            (&raw mut (*record).name).cast(),
            NAME_SIZE as u32,
            member::<Address>(dentry, &offset::DENTRY_NAME) as *const _,
        );
    }
    fill_socket(record, if mode & S_IFMT == S_IFSOCK { file } else { 0 });
}

/// `st_mode`'s type bits, and a socket's.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// `AF_UNIX` and `AF_INET6`.
const AF_UNIX: u16 = 1;
const AF_INET6: u16 = 10;

/// The socket behind a file; everything is 0 for `file` 0.
#[inline(always)]
fn fill_socket(record: *mut FileRecord, file: Address) {
    let socket: Address = if file == 0 {
        0
    } else {
        member(file, &offset::FILE_PRIVATE)
    };
    let sock: Address = member(socket, &offset::SOCKET_SOCK);
    let family: u16 = member(sock, &offset::SOCK_FAMILY);
    let kind: u16 = member(socket, &offset::SOCKET_TYPE);
    let protocol: u16 = member(sock, &offset::SOCK_PROTOCOL);
    let state: u8 = member(sock, &offset::SOCK_STATE);
    let local_port: u16 = member(sock, &offset::SOCK_PORT);
    let remote_port: u16 = member(sock, &offset::SOCK_REMOTE_PORT);
    let (mut local, mut remote) = ([0_u8; 16], [0_u8; 16]);
    if family == AF_INET6 {
        local = member(sock, &offset::SOCK_LOCAL6);
        remote = member(sock, &offset::SOCK_REMOTE6);
    } else {
        let address: [u8; 4] = member(sock, &offset::SOCK_LOCAL4);
        [local[0], local[1], local[2], local[3]] = address;
        let address: [u8; 4] = member(sock, &offset::SOCK_REMOTE4);
        [remote[0], remote[1], remote[2], remote[3]] = address;
    }
    let unix = if family == AF_UNIX { sock } else { 0 };
    // SAFETY: `record` is a whole record; each member is written.
    unsafe {
        (&raw mut (*record).family).write(u32::from(family));
        (&raw mut (*record).socket_type).write(u32::from(kind));
        (&raw mut (*record).protocol).write(u32::from(protocol));
        (&raw mut (*record).state).write(u32::from(state));
        (&raw mut (*record).local_port).write(u32::from(local_port));
        (&raw mut (*record).remote_port).write(u32::from(u16::from_be(remote_port)));
        (&raw mut (*record).local).write(local);
        (&raw mut (*record).remote).write(remote);
    }
    fill_unix(record, unix);
}

/// The name and the other end of a unix socket.
#[inline(always)]
fn fill_unix(record: *mut FileRecord, sock: Address) {
    let address: Address = member(sock, &offset::UNIX_ADDRESS);
    let length: u32 = member(address, &offset::ADDRESS_LENGTH);
    let peer: Address = member(sock, &offset::UNIX_PEER);
    let socket: Address = member(peer, &offset::SOCK_SOCKET);
    let inode = socket + u64::from(offset::SOCKET_INODE.load());
    let number: u64 = if socket == 0 {
        0
    } else {
        member(inode, &offset::INODE_NUMBER)
    };
    // `sockaddr_un` starts with the family.
    let path = address + u64::from(offset::ADDRESS_NAME.load()) + 2;
    // SAFETY: `record` is a whole record; each member is written.
    unsafe {
        (&raw mut (*record).peer_inode).write(number);
        (&raw mut (*record).unix_length).write(length.saturating_sub(2));
        kernel::copy((&raw mut (*record).unix).cast(), UNIX_SIZE as u32, path);
    }
}
