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

/// Room for one record, or a counted loss.
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = RECORDS.reserve::<T>(0);
    if entry.is_none() {
        control::count(COUNTER_RING_FULL);
    }
    entry
}

/// Bytes that may wait in the ring before the reader is woken up.
#[unsafe(no_mangle)]
static RING_PATIENCE: Global<u64> = Global::new(u64::MAX);

/// Hands a record over that can wait for the reader's next look: the wake-up would cost more than
/// everything else.
#[inline(always)]
pub(crate) fn submit<T: 'static>(entry: RingBufEntry<T>) {
    let flags = if RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)) > RING_PATIENCE.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(flags));
}

/// Hands a record over that somebody is waiting for.
#[inline(always)]
pub(crate) fn submit_now<T: 'static>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
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
