//! Since when each fd is open, and by whom: slots that the kernel programs write, mapped and joined.
//!
//! Two ways to read the same. [`joined`] is what is believed: each row of the kernel's own tables with its slot, put
//! together in the kernel; a slot whose file is not the row's has no part in it. [`Slots`] are the slots alone, read
//! without a call: what the hooks have seen since they were attached, for whoever looks at all tables every second.

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, EbpfLoader, RawTracePointRunOptions, TestRun as _, programs::RawTracePoint};
use fdtrace_common::slot::{
    CHUNK_SLOTS, Chunk, JoinedRecord, STAMP_INHERITED, STAMP_NONE, STAMP_OTHER, STAMP_TID_BITS,
    STAMP_TIME_SHIFT,
};
use rustix::time::{ClockId, clock_getres};

use super::{
    census::{self, Iterator},
    rows::Rows,
    targets::Targets,
    words::Words,
};

/// Chunks that there are: a million fds in a few tables, or 16 383 tables. A quarter of the directory's places.
const CHUNKS: u32 = 16_384;
/// Chunks that one run of the program [`FILL`] gives back.
const FILLED: u32 = 512;
const FILL: &str = "slots_fill";
const JOINED: Iterator = census::files("slots_joined");

/// Has the maps made as large as they have to be.
pub(super) fn make_room(loader: &mut EbpfLoader<'_>) {
    loader.map_max_entries("CHUNKS", CHUNKS);
    loader.map_max_entries("FREE_CHUNKS", CHUNKS);
}

/// Makes all chunks nobody's, but the first one, which stands for none.
pub(super) fn fill(ebpf: &mut Ebpf) -> Result<()> {
    let program = ebpf
        .program_mut(FILL)
        .with_context(|| format!("no program {FILL} in the kernel object"))?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    let mut from = 1;
    while from < CHUNKS {
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = from.into();
        options.args[1] = FILLED.min(CHUNKS - from).into();
        program.test_run(options)?;
        from += FILLED;
    }
    Ok(program.unload()?)
}

/// Loads the iterator, by types that have been read already.
pub(super) fn load(ebpf: &mut Ebpf, types: &Btf) -> Result<()> {
    census::load(ebpf, types, JOINED)
}

/// All open fds as the kernel has them, each with what its slot tells of it.
pub fn joined(ebpf: &mut Ebpf, targets: &Targets) -> Result<Rows<JoinedRecord>> {
    Rows::open(ebpf, targets, JOINED)
}

/// What a slot tells of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// It was there before the hooks, or they have missed it.
    Unknown,
    /// The slot tells of another file, and is not believed: the hooks have missed this one.
    NotBelieved,
    /// When and by whom it was opened.
    Known(Opened),
}

/// When and by whom an fd was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The kernel's ticks, see [`Ticks`].
    pub ticks: u64,
    /// The thread. Of an inherited fd, that of the process it comes from.
    pub tid: u32,
    /// It came with the table.
    pub is_inherited: bool,
}

impl Stamp {
    /// From [`JoinedRecord::stamp`] of a row.
    #[must_use]
    pub fn new(stamp: u64) -> Self {
        match stamp {
            STAMP_NONE => Self::Unknown,
            STAMP_OTHER => Self::NotBelieved,
            stamp => Self::Known(Opened::new(stamp)),
        }
    }
}

impl Opened {
    fn new(stamp: u64) -> Self {
        let tid = stamp & ((1 << STAMP_TID_BITS) - 1);
        Self {
            ticks: stamp >> STAMP_TIME_SHIFT,
            tid: u32::try_from(tid).unwrap_or_default(),
            is_inherited: stamp & STAMP_INHERITED != 0,
        }
    }
}

/// The kernel's ticks as time. They stand still while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// How long one is, nanoseconds.
    pub length_ns: u64,
    /// Some tick.
    some: u64,
    /// When that was, nanoseconds since boot.
    at_ns: u64,
}

impl Ticks {
    /// By a tick of which it is known when it was.
    #[must_use]
    pub fn new(length_ns: u64, ticks: u64, at_ns: u64) -> Self {
        Self {
            length_ns,
            some: ticks,
            at_ns,
        }
    }

    /// By the row behind the last one.
    #[must_use]
    pub fn of_mark(mark: &JoinedRecord) -> Self {
        let ticks = mark.stamp >> STAMP_TIME_SHIFT;
        Self::new(tick_ns(), ticks, mark.seen.time_ns)
    }

    /// When a tick was, nanoseconds since boot; never 0, which stands for unknown.
    #[must_use]
    pub fn time_ns(&self, ticks: u64) -> u64 {
        let time = if ticks < self.some {
            let before = (self.some - ticks).saturating_mul(self.length_ns);
            self.at_ns.saturating_sub(before)
        } else {
            let after = (ticks - self.some).saturating_mul(self.length_ns);
            self.at_ns.saturating_add(after)
        };
        time.max(1)
    }
}

/// How long a tick is: what the coarse clocks advance by (`KTIME_LOW_RES` in `include/linux/hrtimer_defs.h`).
#[must_use]
pub fn tick_ns() -> u64 {
    let length = clock_getres(ClockId::MonotonicCoarse);
    u64::try_from(length.tv_nsec).unwrap_or_default().max(1)
}

/// Words of a [`Chunk`].
const CHUNK_WORDS: usize = size_of::<Chunk>() / 8;
const FILES: usize = std::mem::offset_of!(Chunk, files) / 8;
const NUMBER: usize = std::mem::offset_of!(Chunk, number) / 8;
const OPENED: usize = std::mem::offset_of!(Chunk, opened) / 8;
const MADE: usize = std::mem::offset_of!(Chunk, made_ns) / 8;
const SLOTS: usize = std::mem::offset_of!(Chunk, slots) / 8;

/// All slots, in memory that is shared with running programs.
pub struct Slots(Words);

/// Sixty-four slots of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The address of the table's `files_struct`.
    pub files: u64,
    /// The first of its fds here.
    pub first_fd: u64,
    /// Files that have come into these slots as long as they were followed.
    pub opened: u64,
    /// Of a table's first part: when the table was made, nanoseconds since boot; 0: before anybody looked.
    pub made_ns: u64,
    index: usize,
}

impl Slots {
    /// Maps them.
    pub fn of(ebpf: &Ebpf) -> Result<Self> {
        let size = size_of::<Chunk>() * CHUNKS as usize;
        Ok(Self(Words::map(ebpf, "CHUNKS", size)?))
    }

    /// All parts of all tables, in no order.
    pub fn parts(&self) -> impl std::iter::Iterator<Item = Part> {
        let first = (0..self.0.count()).step_by(CHUNK_WORDS);
        first.filter_map(|index| {
            let files = self.0.load(index + FILES);
            (files != 0).then(|| Part {
                files,
                first_fd: self.0.load(index + NUMBER) * CHUNK_SLOTS as u64,
                opened: self.0.load(index + OPENED),
                made_ns: self.0.load(index + MADE),
                index,
            })
        })
    }

    /// What the slots of a part say is open: fd, file, and when and by whom it was opened.
    pub fn open(&self, part: &Part) -> impl std::iter::Iterator<Item = (u64, u64, Opened)> {
        let (fds, index) = (part.first_fd.., part.index + SLOTS);
        let slots = (index..index + 2 * CHUNK_SLOTS).step_by(2);
        fds.zip(slots).filter_map(|(fd, slot)| {
            let file = self.0.load(slot + 1);
            (file != 0).then(|| (fd, file, Opened::new(self.0.load(slot))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_time_thread_and_whether_it_was_inherited() {
        let stamp = (4_294_892_296 << STAMP_TIME_SHIFT) + 4_194_303;
        let opened = Opened {
            ticks: 4_294_892_296,
            tid: 4_194_303,
            is_inherited: false,
        };
        assert_eq!(Stamp::new(stamp), Stamp::Known(opened));
        let inherited = Opened {
            is_inherited: true,
            ..opened
        };
        assert_eq!(Stamp::new(stamp | STAMP_INHERITED), Stamp::Known(inherited));
        assert_eq!(Stamp::new(0), Stamp::Unknown);
        assert_eq!(Stamp::new(STAMP_OTHER), Stamp::NotBelieved);
    }

    #[test]
    fn ticks_are_times_before_and_after_one_that_is_known() {
        let ticks = Ticks::new(4_000_000, 1_000, 10_000_000_000);
        assert_eq!(ticks.time_ns(1_000), 10_000_000_000);
        assert_eq!(ticks.time_ns(750), 9_000_000_000);
        assert_eq!(ticks.time_ns(1_001), 10_004_000_000);
        assert_eq!(ticks.time_ns(u64::MAX), u64::MAX);
        let early = Ticks::new(4_000_000, 1_000, 1);
        assert_eq!(early.time_ns(0), 1, "0 stands for unknown");
    }
}
