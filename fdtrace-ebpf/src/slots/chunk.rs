//! The chunks themselves, and those that nobody has.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_F_MMAPABLE,
    macros::{map, raw_tracepoint},
    maps::{Array, Stack},
    programs::RawTracePointContext,
};
use fdtrace_common::slot::{CHUNK_SLOTS, Chunk, Slot};

use crate::{
    kernel::Address,
    repeat::{Turn, repeat},
};

/// Which chunk; 0: none.
pub(super) type Index = u32;

/// All chunks, the first one never used. User space says how many when it loads, and maps them.
#[map]
static CHUNKS: Array<Chunk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The chunks that nobody has.
#[map]
static FREE_CHUNKS: Stack<Index> = Stack::with_max_entries(1, 0);

/// A chunk; the one that nobody uses for 0, which is nobody's. To ask first whether there is one would cost more than to
/// look at that.
#[inline(always)]
pub(super) fn at(index: Index) -> Option<*mut Chunk> {
    CHUNKS.get_ptr_mut(index)
}

/// The same, and none for 0.
#[inline(always)]
pub(super) fn some(index: Index) -> Option<*mut Chunk> {
    if index == 0 { None } else { at(index) }
}

/// Takes a chunk for a table; 0: all are taken. What is in its slots stays.
#[inline(always)]
pub(super) fn take(files: Address, number: u64) -> Index {
    let Ok(Some(index)) = FREE_CHUNKS.pop() else {
        return 0;
    };
    let Some(chunk) = some(index) else {
        return 0;
    };
    // SAFETY: a chunk of the map that nobody has.
    unsafe {
        (&raw mut (*chunk).opened).write_volatile(0);
        (&raw mut (*chunk).made_ns).write_volatile(0);
        (&raw mut (*chunk).number).write_volatile(number);
        (&raw mut (*chunk).files).write_volatile(files);
    }
    index
}

/// What is done to each slot of a chunk.
pub(super) trait EachSlot {
    /// One slot; there are [`CHUNK_SLOTS`].
    fn slot(&mut self, index: usize);

    /// All of them, eight in a row: a loop's own instructions are as many as those of what it does.
    #[inline(always)]
    fn all(&mut self) {
        for first in 0..CHUNK_SLOTS / 8 {
            let first = first * 8;
            self.slot(first);
            self.slot(first + 1);
            self.slot(first + 2);
            self.slot(first + 3);
            self.slot(first + 4);
            self.slot(first + 5);
            self.slot(first + 6);
            self.slot(first + 7);
        }
    }
}

/// Nothing is open any more.
pub(super) struct Empty(pub(super) *mut Chunk);

impl EachSlot for Empty {
    #[inline(always)]
    fn slot(&mut self, index: usize) {
        // SAFETY: a chunk of the map, which has so many.
        unsafe {
            let slot = (&raw mut (*self.0).slots).cast::<Slot>().add(index);
            (&raw mut (*slot).file).write_volatile(0);
        }
    }
}

/// It is nobody's any more.
#[inline(always)]
pub(super) fn give_back(index: Index) {
    if let Some(chunk) = some(index) {
        // SAFETY: a chunk of the map.
        unsafe { (&raw mut (*chunk).files).write_volatile(0) };
        let _ = FREE_CHUNKS.push(index, 0);
    }
}

/// Chunks that one run of [`slots_fill`] gives back at most.
const FILL: u32 = 512;

/// At the beginning nobody has any: gives back so many chunks from a number on, the first two arguments of the call. It
/// is attached to nothing, and run by `BPF_PROG_TEST_RUN`.
#[raw_tracepoint]
pub(crate) fn slots_fill(ctx: RawTracePointContext) -> u32 {
    let arguments = ctx.as_ptr() as *const u64;
    // SAFETY: a raw tracepoint's context is an array of its arguments, of which a test run has twelve.
    let (from, count): (u64, u64) = unsafe { (arguments.read(), arguments.add(1).read()) };
    repeat::<FILL, _>(count as u32, &mut Fill { from });
    0
}

/// Gives chunks back in a row.
struct Fill {
    from: u64,
}

impl Turn for Fill {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        give_back((self.from + index) as Index);
    }
}
