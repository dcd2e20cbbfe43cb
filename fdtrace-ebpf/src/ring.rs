//! The ring buffer that records travel in.

use aya_ebpf::{
    Global,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
};
use fdtrace_common::control::COUNTER_RING_FULL;

use crate::control;

/// Kernel to user.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Room for one record, to be written and handed over.
pub(crate) struct Room<T: 'static> {
    entry: RingBufEntry<T>,
    /// Where it lies in the kernel's memory.
    address: u64,
}

impl<T: 'static> Room<T> {
    /// The record. Every byte of it must be written.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }
}

/// Room for one record, or a counted loss.
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<Room<T>> {
    const { assert!(size_of::<T>() >= 8) };
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        control::count(COUNTER_RING_FULL);
        return None;
    };
    // No arithmetic is allowed on a pointer to memory, but on a number that has been stored and loaded.
    let first = entry.as_mut_ptr().cast::<u64>();
    // SAFETY: the record has room for it, and is written from there on.
    let address = unsafe {
        first.write_volatile(first as u64);
        first.read_volatile()
    };
    Some(Room { entry, address })
}

/// Bytes that may wait in the ring before the reader is woken up.
#[unsafe(no_mangle)]
static RING_PATIENCE: Global<u64> = Global::new(u64::MAX);

/// How much waits is asked once in so many bytes of records: where one begins in a stretch of this length,
/// of the ring's memory, within its first [`LARGEST`] bytes. In each stretch one does, and a ring is one at least.
const STRETCH: u64 = 4 * 1024;
/// No record that waits is larger, its header included.
const LARGEST: u64 = 576;

/// Hands a record over that can wait for the reader's next look: the wake-up would cost more than
/// everything else.
#[inline(always)]
pub(crate) fn submit<T: 'static>(room: Room<T>) {
    const { assert!(size_of::<T>() + 8 <= LARGEST as usize) };
    let flags = if room.address % STRETCH < LARGEST
        && RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)) > RING_PATIENCE.load()
    {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    room.entry.submit(u64::from(flags));
}

/// Hands a record over that somebody is waiting for.
#[inline(always)]
pub(crate) fn submit_now<T: 'static>(room: Room<T>) {
    room.entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}

/// Is there less room left than there was? What is not as important as changes waits for better times.
#[inline(always)]
pub(crate) fn is_half_full() -> bool {
    RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)) / 2 > RING_PATIENCE.load()
}

/// Copies a record of any length; false where there is no room for it. With `now`, somebody is waiting.
///
/// # Safety
///
/// `size` bytes of `record` must have been written.
#[inline(always)]
pub(crate) unsafe fn output(record: *const u8, size: u64, now: bool) -> bool {
    let waiting = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    let flags = if now || waiting > RING_PATIENCE.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(record, size as usize) };
    RECORDS.output::<[u8]>(bytes, u64::from(flags)).is_ok()
}
