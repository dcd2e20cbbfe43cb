//! What a file is, as far as that is cheap to tell: no path is walked, no socket's ends are read.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use fdtrace_common::change::{NAME_SIZE, OpenRecord};

use crate::kernel::{Address, Pointer, member, offset};

/// `st_mode`'s type bits, and a socket's.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// Writes the members of a record that tell what its file is.
///
/// # Safety
///
/// `record` must be a whole record.
#[inline(always)]
pub(crate) unsafe fn fill(record: *mut OpenRecord, file: impl Pointer) {
    let inode = file.follow(&offset::FILE_INODE);
    let super_block = inode.follow(&offset::INODE_SUPER);
    let dentry = file.follow(&offset::FILE_DENTRY);
    let mode: u16 = inode.member(&offset::INODE_MODE);
    let (mut family, mut socket_type) = (0_u16, 0_u16);
    if mode & S_IFMT == S_IFSOCK {
        // A pointer to anything: no verifier knows what.
        let socket: Address = file.member(&offset::FILE_PRIVATE);
        let sock: Address = member(socket, &offset::SOCKET_SOCK);
        family = member(sock, &offset::SOCK_FAMILY);
        socket_type = member(socket, &offset::SOCKET_TYPE);
    }
    // SAFETY: the caller's promise; each member is written once.
    unsafe {
        (&raw mut (*record).inode).write(inode.member(&offset::INODE_NUMBER));
        (&raw mut (*record).device).write(super_block.member(&offset::SUPER_DEV));
        (&raw mut (*record).magic).write(super_block.member(&offset::SUPER_MAGIC));
        (&raw mut (*record).open_flags).write(file.member(&offset::FILE_FLAGS));
        (&raw mut (*record).mode).write(mode);
        (&raw mut (*record).family).write(family);
        (&raw mut (*record).socket_type).write(socket_type);
        (&raw mut (*record).known_kind).write(0);
        // The ring's memory is what an older record has left there.
        (&raw mut (*record).name).write([0; NAME_SIZE]);
        bpf_probe_read_kernel_str(
            (&raw mut (*record).name).cast(),
            NAME_SIZE as u32,
            dentry.member::<Address>(&offset::DENTRY_NAME) as *const _,
        );
    }
}
