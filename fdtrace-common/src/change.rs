//! Changes of fd tables, as the hooks see them happen.
//!
//! A table is known by the address of its `files_struct`, a file by that of its `struct file`. Where
//! the hooks sit, and why the order of records is the order of changes in every slot, is told in
//! `fdtrace::probe::plan`.

/// Bytes of a file's name that travel with its record, the final NUL included.
pub const NAME_SIZE: usize = 32;
/// Slots in a [`SlotsRecord`].
pub const CHUNK: usize = 64;
/// Words of the bitmap in a [`BitsRecord`].
pub const WORDS: usize = 64;
/// Slots of a copied table that the kernel programs read. Larger ones are read by the iterator.
pub const COPY_MAX: u32 = 65_536;
/// The same where the verifier walks every turn of their loops: each takes it some 200 instructions.
pub const COPY_MAX_UNROLLED: u32 = 16_384;
/// Slots of an executing process's table that the kernel programs read; larger ones as above.
pub const EXEC_MAX: u32 = 1 << 20;
/// See [`COPY_MAX_UNROLLED`].
pub const EXEC_MAX_UNROLLED: u32 = 65_536;

/// [`OpenRecord::replaced`]: whatever file was there, by a record that comes when the table's lock is free
/// again: the new file may have been closed by then.
pub const ANY_FILE: u64 = u64::MAX;

/// `flags`: whoever did it is in the scope that was asked for.
pub const IN_SCOPE: u32 = 1;
/// `flags`: another hook may have told this close already (`__close_fd_get_file`, which calls
/// `pick_file` on some kernels and not on others). It counts if the file is still in its slot.
pub const MAYBE_TOLD: u32 = 2;
/// `flags` of an [`OpenRecord`] in a snapshot of the model: the file came with the table.
pub const INHERITED: u32 = 16;
/// `flags` of a [`CopyRecord`] or [`BitsRecord`]: the table is larger than the programs read, its slots have to be
/// read by the iterator.
pub const UNREAD: u32 = 4;
/// `flags` of a [`ThreadRecord`]: it was the last thread of its process.
pub const LAST_THREAD: u32 = 8;

/// A file that is in a slot, or comes into it.
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
pub struct OpenRecord {
    /// `RECORD_OPENED`, `RECORD_REPLACED` or `RECORD_SEEN`.
    pub kind: u32,
    /// The number.
    pub fd: u32,
    /// Nanoseconds since boot; 0 unless single changes are shown, and of what was there before.
    pub time_ns: u64,
    /// The table.
    pub files: u64,
    /// The file.
    pub file: u64,
    /// The file that it replaces, 0 where there is none, or [`ANY_FILE`]. Of `RECORD_SEEN` and `RECORD_HELD`: the other
    /// end of a unix socket, see [`crate::peer`].
    pub replaced: u64,
    /// Inode number.
    pub inode: u64,
    /// The process that did it; of `RECORD_SEEN`, the one whose table it is.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Its user, where single changes are shown; else 0.
    pub uid: u32,
    /// The call it is in, where single changes are shown; else 0.
    pub call: u32,
    /// Device of the file system, as `MAJOR << 20 | MINOR`.
    pub device: u32,
    /// Magic number of the file system.
    pub magic: u32,
    /// Flags of open(2), where single changes are shown; else 0.
    pub open_flags: u32,
    /// [`IN_SCOPE`].
    pub flags: u32,
    /// `st_mode`.
    pub mode: u16,
    /// Address family of a socket.
    pub family: u16,
    /// `SOCK_STREAM` and so on.
    pub socket_type: u16,
    /// 0 from the kernel. In a snapshot of the model: what it is, as the user side numbers kinds, from 1.
    pub known_kind: u16,
    /// The last component of its path, or the name that the kernel gave it, up to a NUL; behind that is
    /// anything, where single changes are not shown. Hostile text.
    pub name: [u8; NAME_SIZE],
}

/// A file that has left its slot.
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
pub struct CloseRecord {
    /// `RECORD_CLOSED`.
    pub kind: u32,
    /// The number.
    pub fd: u32,
    /// Nanoseconds since boot; 0 unless single changes are shown.
    pub time_ns: u64,
    /// The table.
    pub files: u64,
    /// The file.
    pub file: u64,
    /// The process that did it.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// As in [`OpenRecord`].
    pub uid: u32,
    /// As in [`OpenRecord`].
    pub call: u32,
    /// [`IN_SCOPE`], [`MAYBE_TOLD`].
    pub flags: u32,
    /// Always 0.
    pub padding: u32,
}

/// A table that has just been made as a copy: by fork, unshare, exec or `close_range`.
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
pub struct CopyRecord {
    /// `RECORD_COPIED`.
    pub kind: u32,
    /// [`IN_SCOPE`], [`UNREAD`].
    pub flags: u32,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// The table that was copied.
    pub from: u64,
    /// The copy.
    pub files: u64,
    /// The process that did it.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The call it is in.
    pub call: u32,
    /// Its user, where single changes are shown; else 0.
    pub uid: u32,
}

/// Sixty-four slots of a table that has just been copied, and that nobody else can reach yet.
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
pub struct SlotsRecord {
    /// `RECORD_COPIED_SLOTS`.
    pub kind: u32,
    /// The first number, a multiple of [`CHUNK`].
    pub first: u32,
    /// The table.
    pub files: u64,
    /// The files; 0 for a free slot.
    pub slots: [u64; CHUNK],
}

/// Which slots exec has left open. The process has one thread, and its table no other user.
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
pub struct BitsRecord {
    /// `RECORD_EXECUTED`.
    pub kind: u32,
    /// The number of the first bit, a multiple of 64 × [`WORDS`].
    pub first: u32,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// The table.
    pub files: u64,
    /// The process.
    pub tgid: u32,
    /// Its one thread.
    pub tid: u32,
    /// Its user, where single changes are shown; else 0.
    pub uid: u32,
    /// [`IN_SCOPE`], [`UNREAD`].
    pub flags: u32,
    /// How many words of `bits` belong to the table.
    pub words: u32,
    /// Always 0.
    pub padding: u32,
    /// `open_fds`.
    pub bits: [u64; WORDS],
}

/// A thread and the table it uses.
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
pub struct ThreadRecord {
    /// `RECORD_BOUND`, `RECORD_EXITED` or `RECORD_RENAMED`.
    pub kind: u32,
    /// [`IN_SCOPE`], [`LAST_THREAD`].
    pub flags: u32,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// The table; 0 where it has none.
    pub files: u64,
    /// Start of the process, nanoseconds since boot.
    pub started_ns: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread that made it.
    pub creator: u32,
    /// Its user, where single changes are shown; else 0.
    pub uid: u32,
    /// Its name. Hostile text.
    pub comm: [u8; 16],
}

/// Everything that the iterator has found was there before this record.
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
pub struct MarkRecord {
    /// `RECORD_MARK`.
    pub kind: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<OpenRecord>() == 120);
const _: () = assert!(size_of::<CloseRecord>() == 56);
const _: () = assert!(size_of::<CopyRecord>() == 48);
const _: () = assert!(size_of::<SlotsRecord>() == 528);
const _: () = assert!(size_of::<BitsRecord>() == 560);
const _: () = assert!(size_of::<ThreadRecord>() == 64);
