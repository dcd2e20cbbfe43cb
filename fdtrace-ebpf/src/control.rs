//! What the user side has said, and the counters it reads.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use fdtrace_common::control::{COUNTERS, Control, PHASE_SELF_TEST};

/// Phase and tick, written by the user side.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// The `COUNTER_` constants' values, one set a CPU.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// The phase fdtrace is in.
#[inline(always)]
pub(crate) fn phase() -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the map's value is a `Control`; the user side may write it meanwhile, a whole
        // word at a time.
        Some(control) => unsafe { (&raw const (*control).phase).read_volatile() },
        None => PHASE_SELF_TEST,
    }
}

/// The reader's clock, see [`Control::tick`].
#[inline(always)]
pub(crate) fn tick() -> u64 {
    match CONTROL.get_ptr(0) {
        // SAFETY: as in `phase`.
        Some(control) => unsafe { (&raw const (*control).tick).read_volatile() },
        None => 0,
    }
}

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(counter: u32) {
    if let Some(value) = LOST.get_ptr_mut(counter) {
        // SAFETY: this CPU's own entry.
        unsafe { *value += 1 };
    }
}
