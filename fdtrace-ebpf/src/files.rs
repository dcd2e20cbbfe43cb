//! Every open fd, by the kernel's own file iterator.

use aya_ebpf::{
    helpers::generated::{bpf_d_path, bpf_probe_read_kernel_str, bpf_seq_write},
    macros::map,
    maps::Array,
};
use fdtrace_common::{
    change::{MarkRecord, OpenRecord},
    file::{
        FileRecord, KindsRecord, NAME_SIZE, PATH_SIZE, PLAIN_SIZE, SOCKET_SIZE, UNIX_SIZE,
    },
    kind::{Inode, KINDS, Kind, Prefix},
    record::{RECORD_MARK, RECORD_SEEN},
};

use crate::{
    census::IteratorMeta,
    identity,
    kernel::{self, Address, Offset as _, Pointer, Table, Typed, member, offset},
    peer, ring, scope,
};

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`).
#[repr(C)]
pub(crate) struct TaskFileContext {
    pub(crate) meta: *const IteratorMeta,
    pub(crate) task: *const core::ffi::c_void,
    pub(crate) fd: u32,
    padding: u32,
    pub(crate) file: *const core::ffi::c_void,
}

/// A record with room for its path, too large for a program's stack.
#[repr(C)]
struct Room {
    record: FileRecord,
    /// Twice the room: the verifier is told of a length by a mask.
    path: [u8; 2 * PATH_SIZE],
}

/// One iterator runs at a time: fdtrace reads it to its end.
#[map]
static FILE_ROOM: Array<Room> = Array::with_max_entries(1, 0);

/// All open fds, with the full path of each.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_with_paths(context: *mut TaskFileContext) -> i32 {
    visit(context, true, false)
}

/// The same for kernels whose iterators may not ask for paths (before 5.12), and for counting.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_without_paths(context: *mut TaskFileContext) -> i32 {
    visit(context, false, false)
}

/// Pipes, FIFOs and unix sockets of all processes, whoever is asked for: each may be the other end of one that is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_with_ends(context: *mut TaskFileContext) -> i32 {
    visit(context, false, true)
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
            (*context).task,
            (*context).fd,
            (*context).file,
        )
    };
    if task.is_null() || file.is_null() {
        if let Some(mut entry) = ring::reserve::<MarkRecord>() {
            let record = entry.as_mut_ptr();
            // SAFETY: `record` points to a whole reserved record; each member is written once.
            unsafe {
                (&raw mut (*record).kind).write(RECORD_MARK);
                (&raw mut (*record).padding).write(0);
            }
            ring::submit_now(entry);
        }
        return 0;
    }
    let (task, file) = (Typed(task.cast()), Typed(file.cast()));
    let Some(record) = SLOT_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map's one value, which nobody else uses while this iterator runs; each member is
    // written. `meta` and its `seq` are trusted pointers of the iterator.
    unsafe {
        (&raw mut (*record).kind).write(RECORD_SEEN);
        (&raw mut (*record).fd).write(fd);
        (&raw mut (*record).time_ns).write(0);
        (&raw mut (*record).files).write(task.member(&offset::TASK_FILES));
        (&raw mut (*record).file).write(file.address());
        (&raw mut (*record).tgid).write(task.member(&offset::TASK_TGID));
        (&raw mut (*record).tid).write(task.member(&offset::TASK_PID));
        (&raw mut (*record).uid).write(0);
        (&raw mut (*record).call).write(0);
        (&raw mut (*record).flags).write(0);
        identity::fill(record, file);
        (&raw mut (*record).replaced).write(peer::of(file, record));
        bpf_seq_write(
            (*meta).seq,
            record.cast_const().cast(),
            size_of::<OpenRecord>() as u32,
        );
    }
    0
}

#[inline(always)]
fn visit(context: *mut TaskFileContext, with_path: bool, ends_only: bool) -> i32 {
    // SAFETY: the kernel passes a whole context; `task` and `file` are NULL after the last one.
    let (meta, task, fd, file) = unsafe {
        (
            (*context).meta,
            (*context).task,
            (*context).fd,
            (*context).file,
        )
    };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let task = Typed(task.cast());
    let tgid: u32 = task.member(&offset::TASK_TGID);
    if ends_only {
        let kind = kind_of(Typed(file.cast()));
        if !matches!(kind, Kind::Pipe | Kind::Fifo | Kind::Unix) {
            return 0;
        }
    } else if !scope::lists(tgid) {
        return 0;
    }
    let Some(room) = FILE_ROOM.get_ptr_mut(0) else {
        return 0;
    };
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
    // SAFETY: the map's one value, which nobody else uses while this iterator runs.
    let record = unsafe { &raw mut (*room).record };
    // SAFETY: it is a whole record.
    let size = unsafe {
        (&raw mut (*record).path_length).write_volatile(length);
        (&raw mut (*record).tgid).write(tgid);
        (&raw mut (*record).fd).write(fd);
        fill(record, task, Typed(file.cast()), length == 0)
    };
    // SAFETY: as above; `meta` and its `seq` are trusted pointers of the iterator. The length is read back
    // and masked because the verifier does not see that it was compared before.
    unsafe {
        let length = (&raw const (*record).path_length).read_volatile() & (2 * PATH_SIZE as u32 - 1);
        bpf_seq_write((*meta).seq, record.cast_const().cast(), size);
        bpf_seq_write((*meta).seq, (&raw const (*room).path).cast(), length);
    }
    0
}

/// Writes all but the numbers of process and fd; how many bytes of the record there are.
///
/// # Safety
///
/// `record` must be a whole record.
#[inline(always)]
unsafe fn fill(record: *mut FileRecord, task: Typed, file: Typed, is_nameless: bool) -> u32 {
    let files = task.follow(&offset::TASK_FILES);
    let inode = file.follow(&offset::FILE_INODE);
    let super_block = inode.follow(&offset::INODE_SUPER);
    let identity = identity_of(inode, super_block);
    // SAFETY: the caller's promise.
    let fd = unsafe { (&raw const (*record).fd).read() };
    // SAFETY: the caller's promise; each member is written.
    unsafe {
        (&raw mut (*record).files).write(files.address());
        (&raw mut (*record).file).write(file.address());
        (&raw mut (*record).inode).write(inode.member(&offset::INODE_NUMBER));
        (&raw mut (*record).tid).write(task.member(&offset::TASK_PID));
        (&raw mut (*record).uid).write(task.follow(&offset::TASK_CRED).member(&offset::CRED_UID));
        (&raw mut (*record).device).write(super_block.member(&offset::SUPER_DEV));
        (&raw mut (*record).magic).write(identity.magic);
        (&raw mut (*record).mode).write(identity.mode);
        (&raw mut (*record).links).write(inode.member(&offset::INODE_LINKS));
        (&raw mut (*record).flags).write(file.member(&offset::FILE_FLAGS));
        (&raw mut (*record).close_on_exec).write(Table::of(files.address()).closes_on_exec(fd));
        kernel::copy((&raw mut (*record).comm).cast(), 16, comm_of(task));
        zero((&raw mut (*record).name).cast(), NAME_SIZE / 8);
        if is_nameless || identity.needs_name() {
            bpf_probe_read_kernel_str(
                (&raw mut (*record).name).cast(),
                NAME_SIZE as u32,
                name_of(file) as *const _,
            );
        }
    }
    let mut size = PLAIN_SIZE as u32;
    if identity.is_socket() {
        let unix_length = fill_socket(record, file);
        size = if unix_length == 0 {
            SOCKET_SIZE as u32
        } else {
            size_of::<FileRecord>() as u32
        };
    }
    // SAFETY: the caller's promise.
    unsafe { (&raw mut (*record).size).write(size) };
    size
}

/// All but what only sockets have.
#[inline(always)]
fn identity_of(inode: Typed, super_block: Typed) -> Inode {
    Inode {
        magic: super_block.member(&offset::SUPER_MAGIC),
        mode: u32::from(inode.member::<u16>(&offset::INODE_MODE)),
        family: 0,
        socket_type: 0,
    }
}

#[inline(always)]
fn comm_of(task: Typed) -> Address {
    task.address() + u64::from(offset::TASK_COMM.load())
}

/// The last component of its path.
#[inline(always)]
fn name_of(file: Typed) -> Address {
    file.follow(&offset::FILE_DENTRY)
        .member(&offset::DENTRY_NAME)
}

/// Zeroes words one by one: of plain stores in a row the compiler makes a call that goes byte by byte.
///
/// # Safety
///
/// There must be so many at `first`.
#[inline(always)]
unsafe fn zero(first: *mut u64, count: usize) {
    for word in 0..count {
        // SAFETY: the caller's promise.
        unsafe { first.add(word).write_volatile(0) };
    }
}

/// The table that is being summed up.
#[repr(C)]
struct Sum {
    /// The iterator's run.
    session: u64,
    /// Whose table; 0: nobody's.
    task: Address,
    record: KindsRecord,
}

#[map]
static SUM: Array<Sum> = Array::with_max_entries(1, 0);

/// How many files of each kind every table has: a record a table.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn files_counted(context: *mut TaskFileContext) -> i32 {
    // SAFETY: as in `visit`.
    let (meta, task, file) = unsafe { ((*context).meta, (*context).task, (*context).file) };
    let Some(sum) = SUM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map's one value, which nobody else uses while this iterator runs; `meta` and its `seq` are
    // trusted pointers of the iterator.
    unsafe {
        // The one before may not have been read to its end.
        if (*sum).session != (*meta).session_id {
            (*sum).session = (*meta).session_id;
            (*sum).task = 0;
        }
        if (*sum).task != task as Address {
            if (*sum).task != 0 {
                let record = (&raw const (*sum).record).cast();
                if bpf_seq_write((*meta).seq, record, size_of::<KindsRecord>() as u32) != 0 {
                    // There is no room: the kernel makes some, and shows the same file again.
                    return 0;
                }
            }
            (*sum).task = 0;
        }
    }
    if task.is_null() || file.is_null() {
        return 0;
    }
    let task = Typed(task.cast());
    // SAFETY: as above.
    unsafe {
        if (*sum).task == 0 {
            let tgid: u32 = task.member(&offset::TASK_TGID);
            if !scope::lists(tgid) {
                return 0;
            }
            let record = &raw mut (*sum).record;
            (&raw mut (*record).tgid).write(tgid);
            (&raw mut (*record).tid).write(task.member(&offset::TASK_PID));
            (&raw mut (*record).uid)
                .write(task.follow(&offset::TASK_CRED).member(&offset::CRED_UID));
            (&raw mut (*record).padding).write(0);
            kernel::copy((&raw mut (*record).comm).cast(), 16, comm_of(task));
            zero((&raw mut (*record).kinds).cast(), KINDS / 2);
            (*sum).task = task.address();
        }
        let kind = kind_of(Typed(file.cast())) as usize & (KINDS - 1);
        let count = (&raw mut (*sum).record.kinds).cast::<u32>().add(kind);
        *count += 1;
    }
    0
}

/// What a file is.
#[inline(always)]
fn kind_of(file: Typed) -> Kind {
    let inode = file.follow(&offset::FILE_INODE);
    let mut identity = identity_of(inode, inode.follow(&offset::INODE_SUPER));
    let mut name = [0; Prefix::SIZE];
    if identity.is_socket() {
        // A pointer to anything: no verifier knows what.
        let socket: Address = file.member(&offset::FILE_PRIVATE);
        let sock: Address = member(socket, &offset::SOCKET_SOCK);
        identity.family = u32::from(member::<u16>(sock, &offset::SOCK_FAMILY));
        identity.socket_type = u32::from(member::<u16>(socket, &offset::SOCKET_TYPE));
    } else if identity.needs_name() {
        // SAFETY: it has so many bytes.
        unsafe {
            bpf_probe_read_kernel_str(
                name.as_mut_ptr().cast(),
                Prefix::SIZE as u32,
                name_of(file) as *const _,
            );
        }
    }
    identity.kind(Prefix::new(name))
}

/// `AF_UNIX` and `AF_INET6`.
const AF_UNIX: u16 = 1;
const AF_INET6: u16 = 10;

/// The socket behind a file; bytes of its name.
#[inline(always)]
fn fill_socket(record: *mut FileRecord, file: Typed) -> u32 {
    // A pointer to anything: no verifier knows what.
    let socket: Address = file.member(&offset::FILE_PRIVATE);
    let sock: Address = member(socket, &offset::SOCKET_SOCK);
    let family: u16 = member(sock, &offset::SOCK_FAMILY);
    let kind: u16 = member(socket, &offset::SOCKET_TYPE);
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
    // SAFETY: `record` is a whole record; each member is written.
    unsafe {
        (&raw mut (*record).family).write(u32::from(family));
        (&raw mut (*record).socket_type).write(u32::from(kind));
        (&raw mut (*record).state).write(u32::from(state));
        (&raw mut (*record).local_port).write(u32::from(local_port));
        (&raw mut (*record).remote_port).write(u32::from(u16::from_be(remote_port)));
        (&raw mut (*record).local).write(local);
        (&raw mut (*record).remote).write(remote);
        (&raw mut (*record).peer_inode).write(0);
        (&raw mut (*record).unix_length).write(0);
    }
    if family == AF_UNIX {
        fill_unix(record, sock)
    } else {
        0
    }
}

/// The name and the other end of a unix socket; bytes of its name.
#[inline(always)]
fn fill_unix(record: *mut FileRecord, sock: Address) -> u32 {
    let address: Address = member(sock, &offset::UNIX_ADDRESS);
    let number = peer::inode(member(sock, &offset::UNIX_PEER));
    let mut length = 0;
    if address != 0 {
        length = member::<u32>(address, &offset::ADDRESS_LENGTH).saturating_sub(2);
        // `sockaddr_un` starts with the family.
        let path = address + u64::from(offset::ADDRESS_NAME.load()) + 2;
        // SAFETY: `record` is a whole record.
        unsafe {
            (&raw mut (*record).padding).write(0);
            kernel::copy((&raw mut (*record).unix).cast(), UNIX_SIZE as u32, path);
        }
    }
    // SAFETY: `record` is a whole record; each member is written.
    unsafe {
        (&raw mut (*record).peer_inode).write(number);
        (&raw mut (*record).unix_length).write(length);
    }
    length
}
