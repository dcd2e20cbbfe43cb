//! What a file is, as far as that is cheap to tell: no path is walked, no socket's ends are read.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use fdtrace_common::change::{NAME_SIZE, OpenRecord};

use crate::{
    actor,
    kernel::{Address, Offset as _, Pointer, member, offset},
};

/// `st_mode`'s type bits, and a socket's.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The lowest bit of each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// Words of a name.
const NAME_WORDS: usize = NAME_SIZE / 8;

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
    let open_flags = if actor::shows_details() {
        file.member(&offset::FILE_FLAGS)
    } else {
        0
    };
    // SAFETY: the caller's promise; each member is written once.
    unsafe {
        (&raw mut (*record).inode).write(inode.member(&offset::INODE_NUMBER));
        (&raw mut (*record).device).write(super_block.member(&offset::SUPER_DEV));
        (&raw mut (*record).magic).write(super_block.member(&offset::SUPER_MAGIC));
        (&raw mut (*record).open_flags).write(open_flags);
        (&raw mut (*record).mode).write(mode);
        (&raw mut (*record).family).write(family);
        (&raw mut (*record).socket_type).write(socket_type);
        (&raw mut (*record).known_kind).write(0);
        name((&raw mut (*record).name).cast(), dentry);
    }
}

/// Writes a file's name.
///
/// # Safety
///
/// `to` must have room for [`NAME_SIZE`] bytes.
#[inline(always)]
unsafe fn name(to: *mut u64, dentry: impl Pointer) {
    let name: Address = dentry.member(&offset::DENTRY_NAME);
    let short = dentry.address() + u64::from(offset::DENTRY_SHORT_NAME.load());
    if name == short && !actor::shows_details() && dentry.is_typed() {
        // Nearly every name lies in its dentry. What an older name has left behind the NUL goes no further
        // than the reader, which looks up to the NUL; a recording has details.
        let mut has_ended = false;
        for word in 0..NAME_WORDS {
            // A load is a dozen instructions to the kernel, which proves each address before it.
            let text: u64 = if has_ended {
                0
            } else {
                dentry.member_at(&offset::DENTRY_SHORT_NAME, word * 8)
            };
            has_ended |= text.wrapping_sub(ONES) & !text & (ONES << 7) != 0;
            // SAFETY: the caller's promise. A short name has as much room (`DNAME_INLINE_LEN` in
            // include/linux/dcache.h: 32 at least where a word has 64 bits).
            unsafe { to.add(word).write_volatile(text) };
        }
        return;
    }
    // The ring's memory is what an older record has left there. Word by word, volatile: of four stores in
    // a row the compiler makes a call of `memset`, which goes byte by byte.
    for word in 0..NAME_WORDS {
        // SAFETY: the caller's promise.
        unsafe { to.add(word).write_volatile(0) };
    }
    // SAFETY: the caller's promise; the source may be any address.
    unsafe { bpf_probe_read_kernel_str(to.cast(), NAME_SIZE as u32, name as *const _) };
}
