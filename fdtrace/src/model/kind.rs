//! What kind of thing an fd leads to.

use fdtrace_common::file::FileRecord;
use serde::Serialize;

/// The kinds that reports tell apart.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    strum::EnumString,
    strum::Display,
    strum::FromRepr,
)]
#[repr(u16)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the field's own")]
pub enum Kind {
    File,
    Dir,
    Pipe,
    Fifo,
    Char,
    Block,
    Tcp,
    Udp,
    Unix,
    Netlink,
    Packet,
    Vsock,
    Socket,
    Eventfd,
    Epoll,
    Timerfd,
    Signalfd,
    Inotify,
    Fanotify,
    Pidfd,
    Memfd,
    Bpf,
    Perf,
    IoUring,
    Anon,
    #[default]
    Unknown,
}

/// Magic numbers of file systems (include/uapi/linux/magic.h).
const ANON_INODE_FS: u32 = 0x0904_1934;
const PID_FS: u32 = 0x5049_4446;
const PIPE_FS: u32 = 0x5049_5045;
const TMPFS: u32 = 0x0102_1994;
const HUGETLBFS: u32 = 0x9584_58f6;
const SECRETMEM: u32 = 0x5345_434d;

/// Address families (include/linux/socket.h).
pub(crate) const AF_UNIX: u32 = 1;
pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_PACKET: u32 = 17;
const AF_VSOCK: u32 = 40;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

impl Kind {
    /// Tells by the file system first: anonymous inodes have had a type of their own, a regular
    /// file's, and none, depending on the kernel.
    #[must_use]
    pub fn of(record: &FileRecord, name: &[u8]) -> Self {
        let inode = Inode {
            magic: record.magic,
            mode: record.mode,
            family: record.family,
            socket_type: record.socket_type,
        };
        inode.kind(name)
    }

    /// By the name that the kernel gave it; only names in brackets cannot be a user's.
    fn anonymous(name: &[u8]) -> Self {
        match name {
            b"[eventfd]" => Self::Eventfd,
            b"[eventpoll]" => Self::Epoll,
            b"[timerfd]" => Self::Timerfd,
            b"[signalfd]" => Self::Signalfd,
            b"inotify" => Self::Inotify,
            b"[fanotify]" => Self::Fanotify,
            b"[pidfd]" => Self::Pidfd,
            b"[perf_event]" => Self::Perf,
            b"[io_uring]" => Self::IoUring,
            b"btf" => Self::Bpf,
            name if name.starts_with(b"bpf") => Self::Bpf,
            _ => Self::Anon,
        }
    }
}

/// What tells the kind.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Magic number of the file system.
    pub magic: u32,
    /// `st_mode`.
    pub mode: u32,
    /// Address family of a socket.
    pub family: u32,
    /// `SOCK_STREAM` and so on.
    pub socket_type: u32,
}

impl Inode {
    /// The kind of a file whose name, given by the kernel or by a user, is this one.
    #[must_use]
    pub fn kind(self, name: &[u8]) -> Kind {
        match self.magic {
            ANON_INODE_FS => return Kind::anonymous(name),
            PID_FS => return Kind::Pidfd,
            SECRETMEM => return Kind::Memfd,
            _ => {}
        }
        match self.mode & 0o170_000 {
            0o140_000 => self.socket(),
            0o010_000 if self.magic == PIPE_FS => Kind::Pipe,
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::Char,
            0o040_000 => Kind::Dir,
            0o060_000 => Kind::Block,
            0o100_000 if matches!(self.magic, TMPFS | HUGETLBFS) && name.starts_with(b"memfd:") => {
                Kind::Memfd
            }
            // A symbolic link can only be open as a place (O_PATH).
            0o100_000 | 0o120_000 => Kind::File,
            0 => Kind::Anon,
            _ => Kind::Unknown,
        }
    }

    fn socket(self) -> Kind {
        match (self.family, self.socket_type) {
            (AF_UNIX, _) => Kind::Unix,
            (AF_INET | AF_INET6, SOCK_STREAM) => Kind::Tcp,
            (AF_INET | AF_INET6, SOCK_DGRAM) => Kind::Udp,
            (AF_NETLINK, _) => Kind::Netlink,
            (AF_PACKET, _) => Kind::Packet,
            (AF_VSOCK, _) => Kind::Vsock,
            _ => Kind::Socket,
        }
    }
}
