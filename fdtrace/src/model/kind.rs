//! What kind of thing an fd leads to.

use fdtrace_common::file::FileRecord;
use serde::Serialize;

/// The kinds that reports tell apart.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    strum::EnumString,
    strum::Display,
)]
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
        match record.magic {
            ANON_INODE_FS => return Self::anonymous(name),
            PID_FS => return Self::Pidfd,
            SECRETMEM => return Self::Memfd,
            _ => {}
        }
        match record.mode & 0o170_000 {
            0o140_000 => Self::socket(record),
            0o010_000 if record.magic == PIPE_FS => Self::Pipe,
            0o010_000 => Self::Fifo,
            0o020_000 => Self::Char,
            0o040_000 => Self::Dir,
            0o060_000 => Self::Block,
            0o100_000
                if matches!(record.magic, TMPFS | HUGETLBFS) && name.starts_with(b"memfd:") =>
            {
                Self::Memfd
            }
            // A symbolic link can only be open as a place (O_PATH).
            0o100_000 | 0o120_000 => Self::File,
            0 => Self::Anon,
            _ => Self::Unknown,
        }
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

    fn socket(record: &FileRecord) -> Self {
        match (record.family, record.socket_type) {
            (AF_UNIX, _) => Self::Unix,
            (AF_INET | AF_INET6, SOCK_STREAM) => Self::Tcp,
            (AF_INET | AF_INET6, SOCK_DGRAM) => Self::Udp,
            (AF_NETLINK, _) => Self::Netlink,
            (AF_PACKET, _) => Self::Packet,
            (AF_VSOCK, _) => Self::Vsock,
            _ => Self::Socket,
        }
    }
}
