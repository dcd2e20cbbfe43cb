//! Where a table's chunks are.
//!
//! A hash table of chunks' numbers, at addresses that programs know without asking: what is in a place is right if the
//! chunk says that it is the one that is looked for. So a place is one word, which any CPU may write at any moment.
//! Two that want the same place decide by compare-and-swap who gets it, or on kernels without one by [`regions`].
//!
//! A search ends at the first place that has never been taken, or is so again: a chunk that goes leaves [`GONE`] where
//! others may lie behind it.

use core::cell::UnsafeCell;

use fdtrace_common::{control::COUNTER_CHUNKS, slot::Chunk};

use super::{
    atomic,
    chunk::{self, EachSlot as _, Empty, Index},
    regions::{self, slots_enter_region},
};
use crate::{control, kernel::Address};

/// Places; at most a quarter of them is taken ([`chunk::MOST`]).
const PLACES: u32 = 1 << BITS;
const BITS: u32 = 16;
/// Places in a row that a chunk can be in.
const PROBES: u32 = 8;
/// In a place that a chunk has left. No chunk has this number.
const GONE: Index = Index::MAX;
/// Those of them that every hook looks at before it calls a function.
const NEAR: u32 = 2;

/// Zeroes at the beginning: in no place is a chunk.
#[repr(transparent)]
struct Directory(UnsafeCell<[u32; PLACES as usize]>);

// SAFETY: accessed a word at a time, through pointers only.
unsafe impl Sync for Directory {}

#[unsafe(no_mangle)]
static DIRECTORY: Directory = Directory(UnsafeCell::new([0; PLACES as usize]));

/// What is looked for, and where to begin.
#[derive(Clone, Copy)]
pub(super) struct Place {
    files: Address,
    number: u64,
    first: u32,
}

impl Place {
    /// The chunk that an fd belongs to.
    #[inline(always)]
    pub(super) fn of(files: Address, fd: u32) -> Self {
        Self::of_number(files, fd >> 6)
    }

    /// A table's chunk by its number.
    #[inline(always)]
    pub(super) fn of_number(files: Address, number: u32) -> Self {
        // Tables are of the same size and lie in a row, chunks' numbers begin at 0: both are to spread.
        let mixed = (atomic::low(files) >> 6).wrapping_add(number.wrapping_mul(0x85eb_ca6b));
        Self {
            files,
            number: u64::from(number),
            first: mixed.wrapping_mul(0x9e37_79b1) >> (32 - BITS),
        }
    }

    #[inline(always)]
    fn word(self, step: u32) -> *mut u32 {
        let place = self.first.wrapping_add(step) & (PLACES - 1);
        // SAFETY: there are so many places.
        unsafe { DIRECTORY.0.get().cast::<u32>().add(place as usize) }
    }

    /// What is in a place.
    #[inline(always)]
    fn index(self, step: u32) -> Index {
        // SAFETY: a word of the directory.
        unsafe { self.word(step).read_volatile() }
    }

    /// The chunk in a place, if it is the one.
    #[inline(always)]
    fn look(self, step: u32) -> Option<(Index, *mut Chunk)> {
        let index = self.index(step);
        let chunk = chunk::at(index)?;
        self.is_in(chunk).then_some((index, chunk))
    }

    #[inline(always)]
    fn is_in(self, chunk: *mut Chunk) -> bool {
        // SAFETY: a chunk of the map.
        unsafe {
            (&raw const (*chunk).files).read_volatile() == self.files
                && (&raw const (*chunk).number).read_volatile() == self.number
        }
    }

    /// The chunk, if it is in one of the first places, as nearly all are.
    #[inline(always)]
    pub(super) fn find_near(self) -> Option<*mut Chunk> {
        let mut step = 0;
        while step < NEAR {
            if let Some((_, chunk)) = self.look(step) {
                return Some(chunk);
            }
            step += 1;
        }
        None
    }

    /// The same, in all places.
    #[inline(always)]
    pub(super) fn find_far(self) -> Option<*mut Chunk> {
        chunk::some(find(self.files, self.number as u32))
    }

    /// The chunk, made if it is not there: with nothing open, or for somebody who writes all of its slots.
    #[inline(always)]
    pub(super) fn claim(self, contents: Contents) -> Option<*mut Chunk> {
        chunk::some(claim(self.files, self.number as u32, contents as u32))
    }

    /// The chunk is nobody's from here on.
    #[inline(always)]
    pub(super) fn free(self) {
        free(self.files, self.number as u32);
    }
}

/// What is in a chunk that has just been made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing is open.
    Empty,
    /// Anything, until all slots have been written.
    Anything,
}

/// The number of a table's chunk; 0: it has none.
#[inline(never)]
fn find(files: Address, number: u32) -> Index {
    let place = Place::of_number(files, number);
    for step in 0..PROBES {
        if place.index(step) == 0 {
            return 0;
        }
        if let Some((index, _)) = place.look(step) {
            return index;
        }
    }
    0
}

/// The same; it is made if it is not there. 0: none is to be had, which is counted.
#[inline(never)]
fn claim(files: Address, number: u32, contents: u32) -> Index {
    let known = find(files, number);
    if known != 0 {
        return known;
    }
    let place = Place::of_number(files, number);
    let index = chunk::take(files, u64::from(number));
    if index == 0 {
        control::count(COUNTER_CHUNKS);
        return 0;
    }
    if contents == Contents::Empty as u32
        && let Some(chunk) = chunk::some(index)
    {
        Empty(chunk).all();
    }
    let there = put(place, index);
    if there != index {
        chunk::give_back(index);
    }
    if there == 0 {
        control::count(COUNTER_CHUNKS);
    }
    there
}

/// Puts a chunk into its place; the one that is there then, which somebody else may have put there first. 0: there is no
/// place.
#[inline(always)]
fn put(place: Place, index: Index) -> Index {
    let region = place.first >> (BITS - regions::BITS);
    if !crate::HAS_LOOP && slots_enter_region(region) == 0 {
        return 0;
    }
    let there = put_alone(place, index);
    if !crate::HAS_LOOP {
        regions::leave(region);
    }
    there
}

#[inline(always)]
fn put_alone(place: Place, index: Index) -> Index {
    for step in 0..PROBES {
        let old = place.index(step);
        let is_free = old == 0 || old == GONE;
        // SAFETY: a word of the directory.
        if is_free && unsafe { atomic::replace(place.word(step), old, index) } {
            return index;
        }
        // Somebody else may have come first with the same.
        if let Some((other, _)) = place.look(step) {
            return other;
        }
    }
    0
}

/// Gives a table's chunk back. Where a race has made two, the other one is forgotten by the next table there.
#[inline(never)]
fn free(files: Address, number: u32) -> u32 {
    let place = Place::of_number(files, number);
    for step in 0..PROBES {
        if place.index(step) == 0 {
            return 0;
        }
        if let Some((index, _)) = place.look(step) {
            let left = if place.index(step + 1) == 0 { 0 } else { GONE };
            // SAFETY: a word of the directory.
            unsafe { place.word(step).write_volatile(left) };
            chunk::give_back(index);
            return 1;
        }
    }
    0
}
