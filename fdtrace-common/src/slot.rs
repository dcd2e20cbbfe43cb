//! Slots: when a file came into a table, and by whom, in memory that kernel and user space share.
//!
//! A slot is believed only where its file is the one that the kernel's own table has there: a hook that was missed
//! can make an age unknown, and never a table wrong.

use crate::change::OpenRecord;

/// Slots in a [`Chunk`].
pub const CHUNK_SLOTS: usize = 64;

/// [`Slot::stamp`]: the lower bits are the thread that has put the file there. A thread's number is below 2²²
/// (`PID_MAX_LIMIT` in include/linux/threads.h).
pub const STAMP_TID_BITS: u32 = 22;
/// [`Slot::stamp`]: the file came with the table, by fork, unshare or `close_range`. Time and thread are those of whoever
/// had put it into the table that was copied.
pub const STAMP_INHERITED: u64 = 1 << STAMP_TID_BITS;
/// [`Slot::stamp`]: above these bits is the time, `jiffies_64`: 41 bits are 69 years of thousand ticks a second.
pub const STAMP_TIME_SHIFT: u32 = STAMP_TID_BITS + 1;

/// [`JoinedRecord::stamp`]: no chunk, or nothing in its slot: the file was there before the hooks, or they were missed.
pub const STAMP_NONE: u64 = 0;
/// [`JoinedRecord::stamp`]: the slot tells of another file. It is not believed.
pub const STAMP_OTHER: u64 = u64::MAX;

/// One slot of a table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// When and by whom: see the `STAMP_` constants.
    pub stamp: u64,
    /// The address of the `struct file`; 0 where nothing is open.
    pub file: u64,
}

/// Sixty-four slots in a row, and whose they are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// The address of the table's `files_struct`; 0: the chunk is free.
    pub files: u64,
    /// Which of the table's chunks it is: the number of its first fd, divided by [`CHUNK_SLOTS`].
    pub number: u64,
    /// Files that have come into these slots as long as the chunk was theirs, without those that were copied.
    pub opened: u64,
    /// Of a table's first chunk: when the table was made, nanoseconds since boot; 0: before anybody looked.
    pub made_ns: u64,
    /// Always 0. Slots begin at a cache line.
    pub padding: [u64; 4],
    /// The slots.
    pub slots: [Slot; CHUNK_SLOTS],
}

/// A row of the kernel's own table, joined with its slot in the kernel. Behind the last one is a row of the kind
/// `RECORD_MARK`, of which two members have a meaning: `time_ns` is the time, nanoseconds since boot, and the stamp has
/// the same moment in ticks.
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
pub struct JoinedRecord {
    /// What is open, and whose: `RECORD_SEEN`.
    pub seen: OpenRecord,
    /// As [`Slot::stamp`], [`STAMP_NONE`] or [`STAMP_OTHER`].
    pub stamp: u64,
}

const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(size_of::<Chunk>() == 64 + 64 * 16);
