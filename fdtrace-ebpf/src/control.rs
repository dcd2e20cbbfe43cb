//! What the user side has said, and the counters it reads.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::generated::bpf_get_smp_processor_id, macros::map,
    maps::Array,
};
use fdtrace_common::{
    control::{Control, Counters, NAMED_ANY, NAMED_WORDS, PHASE_SELF_TEST},
    stack::STACKS_NEVER,
};

/// Phase and tick, written by the user side into its own memory, which this is.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What each CPU has counted, shared like that too; the user side makes one entry for each.
#[map]
static LOST: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the user side has said, found once for an event.
#[derive(Clone, Copy)]
pub(crate) struct Orders(*const Control);

/// There always are.
#[inline(always)]
pub(crate) fn orders() -> Option<Orders> {
    CONTROL.get_ptr(0).map(Orders)
}

impl Orders {
    /// The phase fdtrace is in.
    #[inline(always)]
    pub(crate) fn phase(self) -> u32 {
        // SAFETY: the map's value is a `Control`; the user side may write it meanwhile, a whole word at a time.
        unsafe { (&raw const (*self.0).phase).read_volatile() }
    }

    /// Are the stacks of anybody wanted?
    #[inline(always)]
    pub(crate) fn names_any(self) -> bool {
        // SAFETY: as in `phase`.
        unsafe { (&raw const (*self.0).named).cast::<u64>().read_volatile() != 0 }
    }

    /// Can the stacks of those who open in this table be wanted, see [`Control::named`]?
    #[inline(always)]
    pub(crate) fn may_name(self, files: u64) -> bool {
        for index in 0..NAMED_WORDS {
            // SAFETY: as in `phase`; there are so many words.
            let named = unsafe {
                let first = (&raw const (*self.0).named).cast::<u64>();
                first.add(index).read_volatile()
            };
            if named == 0 {
                return false;
            }
            if named == files || named == NAMED_ANY {
                return true;
            }
        }
        false
    }
}

/// The phase fdtrace is in.
#[inline(always)]
pub(crate) fn phase() -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: as in `Orders::phase`.
        Some(control) => unsafe { (&raw const (*control).phase).read_volatile() },
        None => PHASE_SELF_TEST,
    }
}

/// Whose stacks are wanted, see [`Control::stacks`].
#[inline(always)]
pub(crate) fn stacks() -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: as in `Orders::phase`.
        Some(control) => unsafe { (&raw const (*control).stacks).read_volatile() },
        None => STACKS_NEVER,
    }
}

/// The reader's clock, see [`Control::tick`].
#[inline(always)]
pub(crate) fn tick() -> u64 {
    match CONTROL.get_ptr(0) {
        // SAFETY: as in `Orders::phase`.
        Some(control) => unsafe { (&raw const (*control).tick).read_volatile() },
        None => 0,
    }
}

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(counter: u32) {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = LOST.get_ptr_mut(cpu) {
        // SAFETY: this CPU's own entry, and one of its counters.
        unsafe { *(&raw mut (*counters).counts).cast::<u64>().add(counter as usize) += 1 };
    }
}
