//! Open fds as `iter/task_file` finds them: one, or how many of each kind a table has.

use crate::kind::KINDS;

/// Bytes of a path that `bpf_d_path` may fill.
pub const PATH_SIZE: usize = 4096;
/// Bytes of a name in the record itself.
pub const NAME_SIZE: usize = 64;
/// Bytes of a unix socket's address (`sun_path`).
pub const UNIX_SIZE: usize = 108;

/// What is known of a file without following its path. Of the record itself `size` bytes are written, one of
/// [`PLAIN_SIZE`], [`SOCKET_SIZE`] and the whole; `path_length` bytes of path come behind them.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FileRecord {
    /// Bytes of the record that are written; the others are 0.
    pub size: u32,
    /// Bytes of path that follow them; 0 where the kernel gave none.
    pub path_length: u32,
    /// Address of the `files_struct`.
    pub files: u64,
    /// Address of the `file`: the open file description, which several fds can share.
    pub file: u64,
    /// Inode number.
    pub inode: u64,
    /// The process.
    pub tgid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// The process's real user.
    pub uid: u32,
    /// The number.
    pub fd: u32,
    /// Device of the file system, as `MAJOR << 20 | MINOR`.
    pub device: u32,
    /// Magic number of the file system.
    pub magic: u32,
    /// `st_mode`.
    pub mode: u32,
    /// Hard links; 0 for a deleted file.
    pub links: u32,
    /// Flags of open(2).
    pub flags: u32,
    /// 1: closed by exec.
    pub close_on_exec: u32,
    /// Name of the process's thread.
    pub comm: [u8; 16],
    /// Last component of the path, where that tells the kind or nothing else is told.
    pub name: [u8; NAME_SIZE],
    /// The socket at the other end, by inode number; 0 where there is none (unix sockets).
    pub peer_inode: u64,
    /// Local IPv4 or IPv6 address, network byte order.
    pub local: [u8; 16],
    /// Remote one.
    pub remote: [u8; 16],
    /// Address family of a socket.
    pub family: u32,
    /// `SOCK_STREAM` and so on.
    pub socket_type: u32,
    /// State as in `include/net/tcp_states.h`.
    pub state: u32,
    /// Local port.
    pub local_port: u32,
    /// Remote port.
    pub remote_port: u32,
    /// Bytes of `unix` in use.
    pub unix_length: u32,
    /// `sun_path` of a unix socket; an abstract name starts with a NUL.
    pub unix: [u8; UNIX_SIZE],
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<FileRecord>() == 328);

/// [`FileRecord::size`] of what is no socket.
pub const PLAIN_SIZE: usize = core::mem::offset_of!(FileRecord, peer_inode);
/// [`FileRecord::size`] of a socket without a name.
pub const SOCKET_SIZE: usize = core::mem::offset_of!(FileRecord, unix);

/// How many files of each kind one table has.
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KindsRecord {
    /// The process.
    pub tgid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// The process's real user.
    pub uid: u32,
    /// Always 0.
    pub padding: u32,
    /// Name of the process's thread.
    pub comm: [u8; 16],
    /// Files, by the number of their kind.
    pub kinds: [u32; KINDS],
}
