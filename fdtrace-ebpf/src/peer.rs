//! The other end of a unix socket.

use fdtrace_common::{
    change::OpenRecord,
    held::SHUTDOWN_MASK,
    peer::{NO_PEER, PEER_CLOSED, PEER_WAITS},
};

use crate::kernel::{Address, Offset as _, Pointer, member, offset};

const AF_UNIX: u16 = 1;
const SOCK_DGRAM: u16 = 2;

/// That of a file whose identity is in the record.
///
/// # Safety
///
/// `record` must be a whole record with its family and socket type.
#[inline(always)]
pub(crate) unsafe fn of(file: impl Pointer, record: *const OpenRecord) -> u64 {
    // SAFETY: the caller's promise.
    let (family, socket_type) = unsafe {
        (
            (&raw const (*record).family).read(),
            (&raw const (*record).socket_type).read(),
        )
    };
    if family != AF_UNIX {
        return NO_PEER;
    }
    // A pointer to anything: no verifier knows what.
    let socket: Address = file.member(&offset::FILE_PRIVATE);
    let sock: Address = member(socket, &offset::SOCKET_SOCK);
    let other: Address = member(sock, &offset::UNIX_PEER);
    if other == 0 {
        return NO_PEER;
    }
    let inode = inode(other);
    if inode != 0 {
        return inode;
    }
    // The other end is in no file: it has been closed, which shuts a connection down (`unix_release_sock` in
    // net/unix/af_unix.c), or accept(2) has not taken it from the queue yet (`sock_graft`).
    let shutdown: u8 = member(sock, &offset::SOCK_SHUTDOWN);
    if socket_type == SOCK_DGRAM || shutdown == SHUTDOWN_MASK {
        PEER_CLOSED
    } else {
        PEER_WAITS
    }
}

/// The inode number of the socket that a `struct sock` belongs to; 0 where it belongs to none.
#[inline(always)]
pub(crate) fn inode(sock: Address) -> u64 {
    let socket: Address = member(sock, &offset::SOCK_SOCKET);
    if socket == 0 {
        return 0;
    }
    let inode = socket + u64::from(offset::SOCKET_INODE.load());
    member(inode, &offset::INODE_NUMBER)
}
