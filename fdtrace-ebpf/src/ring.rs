//! The ring buffer that records travel in.

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP,
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

/// Hands a record over that somebody is waiting for.
#[inline(always)]
pub(crate) fn submit_now<T: 'static>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}
