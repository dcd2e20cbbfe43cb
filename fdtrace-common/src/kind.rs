//! What kind of thing an fd leads to, told alike in the kernel and on the user side.
#![expect(
    clippy::inline_always,
    reason = "kernel programs have no room on their stack for calls"
)]

/// The kinds that reports tell apart. Their numbers are in recordings: a new kind comes last.
#[cfg_attr(
    feature = "user",
    derive(
        serde::Serialize,
        strum::EnumString,
        strum::Display,
        strum::FromRepr,
        strum::IntoStaticStr,
        strum::VariantNames
    ),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
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
    Mqueue,
    Ns,
    Secretmem,
    Dmabuf,
}

impl Kind {
    /// Does a file of this kind have a path, by which people know it? A message queue's is its name, a
    /// namespace's is what its link in `/proc/PID/ns` reads.
    #[must_use]
    pub const fn has_path(self) -> bool {
        matches!(
            self,
            Self::File
                | Self::Dir
                | Self::Char
                | Self::Block
                | Self::Fifo
                | Self::Mqueue
                | Self::Ns
        )
    }

    /// Is it a socket that leads to an address, a port or a path?
    #[must_use]
    pub const fn has_end(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Unix)
    }
}

/// Room for a number for each kind: a power of two, so that a mask keeps an index within it.
pub const KINDS: usize = 32;
const _: () = assert!((Kind::Dmabuf as usize) < KINDS);

// Magic numbers of file systems (include/uapi/linux/magic.h; `MQUEUE_MAGIC` in ipc/mqueue.c).
/// The file system whose only inode eventfds, epolls and their like share.
pub const ANON_INODE_FS: u32 = 0x0904_1934;
const PID_FS: u32 = 0x5049_4446;
const PIPE_FS: u32 = 0x5049_5045;
const TMPFS: u32 = 0x0102_1994;
const HUGETLBFS: u32 = 0x9584_58f6;
const SECRETMEM: u32 = 0x5345_434d;
const MQUEUE: u32 = 0x1980_0202;
const NSFS: u32 = 0x6e73_6673;
const DMA_BUF: u32 = 0x444d_4142;
/// KVM's guest memory has a file system of its own since 6.18; before, it was an anonymous inode.
const GUEST_MEMFD: u32 = 0x474d_454d;

/// `st_mode`'s type bits.
const S_IFMT: u32 = 0o170_000;
/// A regular file's, and a socket's.
const S_IFREG: u32 = 0o100_000;
const S_IFSOCK: u32 = 0o140_000;

/// Address families (include/linux/socket.h).
pub const AF_UNIX: u32 = 1;
/// IPv4.
pub const AF_INET: u32 = 2;
/// IPv6.
pub const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_PACKET: u32 = 17;
const AF_VSOCK: u32 = 40;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

/// The first bytes of a name, zeroes behind its end: as two words, which kernel programs compare without a
/// loop. No name that tells a kind is longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    low: u64,
    high: u64,
}

impl Prefix {
    /// Bytes that are looked at.
    pub const SIZE: usize = 16;

    /// Of a name's first bytes.
    #[must_use]
    pub const fn new(bytes: [u8; Self::SIZE]) -> Self {
        let [
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
        ] = bytes;
        Self {
            low: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            high: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
        }
    }

    /// Of a whole name.
    #[must_use]
    pub const fn of(name: &[u8]) -> Self {
        let mut bytes = [0; Self::SIZE];
        let mut index = 0;
        while index < name.len() && index < Self::SIZE {
            bytes[index] = name[index];
            index += 1;
        }
        Self::new(bytes)
    }

    /// Does it start with `text`, which has at most eight bytes?
    #[inline(always)]
    const fn starts_with(self, text: &[u8]) -> bool {
        let mask = u64::MAX >> (64 - 8 * text.len());
        self.low & mask == Self::of(text).low
    }

    /// By the name that the kernel gave an anonymous inode; only names in brackets cannot be a user's.
    #[inline(always)]
    fn anonymous(self) -> Kind {
        const NAMES: [(Prefix, Kind); 10] = [
            (Prefix::of(b"[eventfd]"), Kind::Eventfd),
            (Prefix::of(b"[eventpoll]"), Kind::Epoll),
            (Prefix::of(b"[timerfd]"), Kind::Timerfd),
            (Prefix::of(b"[signalfd]"), Kind::Signalfd),
            (Prefix::of(b"inotify"), Kind::Inotify),
            (Prefix::of(b"[fanotify]"), Kind::Fanotify),
            (Prefix::of(b"[pidfd]"), Kind::Pidfd),
            (Prefix::of(b"[perf_event]"), Kind::Perf),
            (Prefix::of(b"[io_uring]"), Kind::IoUring),
            (Prefix::of(b"btf"), Kind::Bpf),
        ];
        for (name, kind) in NAMES {
            if self == name {
                return kind;
            }
        }
        if self.starts_with(b"bpf") {
            Kind::Bpf
        } else {
            Kind::Anon
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
    /// Is it a socket, of which the other members tell more?
    #[inline(always)]
    #[must_use]
    pub const fn is_socket(self) -> bool {
        self.mode & S_IFMT == S_IFSOCK
    }

    /// Does the kind depend on the name?
    #[inline(always)]
    #[must_use]
    pub const fn needs_name(self) -> bool {
        self.magic == ANON_INODE_FS || self.may_be_memory()
    }

    #[inline(always)]
    const fn may_be_memory(self) -> bool {
        self.mode & S_IFMT == S_IFREG && (self.magic == TMPFS || self.magic == HUGETLBFS)
    }

    /// The kind of a file whose name, given by the kernel or by a user, starts like this.
    ///
    /// By the file system first: anonymous inodes have had a type of their own, a regular file's, and none,
    /// depending on the kernel.
    #[inline(always)]
    #[must_use]
    pub fn kind(self, name: Prefix) -> Kind {
        match self.magic {
            ANON_INODE_FS => return name.anonymous(),
            PID_FS => return Kind::Pidfd,
            SECRETMEM => return Kind::Secretmem,
            NSFS => return Kind::Ns,
            DMA_BUF => return Kind::Dmabuf,
            GUEST_MEMFD => return Kind::Anon,
            // The file system can be mounted, and its root is a directory like any other.
            MQUEUE if self.mode & S_IFMT == S_IFREG => return Kind::Mqueue,
            _ => {}
        }
        if self.may_be_memory() && name.starts_with(b"memfd:") {
            return Kind::Memfd;
        }
        match self.mode & S_IFMT {
            S_IFSOCK => self.socket(),
            0o010_000 if self.magic == PIPE_FS => Kind::Pipe,
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::Char,
            0o040_000 => Kind::Dir,
            0o060_000 => Kind::Block,
            // A symbolic link can only be open as a place (O_PATH).
            S_IFREG | 0o120_000 => Kind::File,
            0 => Kind::Anon,
            _ => Kind::Unknown,
        }
    }

    #[inline(always)]
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
