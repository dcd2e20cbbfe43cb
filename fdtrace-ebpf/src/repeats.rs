//! A thread that goes on failing in the same way costs a comparison and an addition.
//!
//! Of `alloc_fd` alone, where storms come from: each CPU remembers the last failure there. Only that
//! function's program writes the memory of its CPU, and a second run of it is kept off by the kernel, even
//! where programs can be preempted. Where it is seen by probes, there are several programs: of all that sit on
//! probes the kernel runs one at a time on a CPU (`bpf_prog_active` in `kernel/trace/bpf_trace.c`).

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::{bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_task_pt_regs},
    macros::map,
    maps::Array,
};
use fdtrace_common::alarm::{RepeatCell, StormKey};

use crate::{
    control,
    kernel::{Pointer as _, Typed, offset},
};

/// The last failure on each CPU, mapped by the user side, which makes one entry for each.
#[map]
static REPEATS: Array<RepeatCell> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What tells one failure from another, as the current thread has it now.
///
/// A thread is known by its start, to the nanosecond, and by its table. Of its flags those that tell calls apart
/// (`call::current`) stay what they were when it was made, on kernels that have these helpers.
struct Present {
    thread_started_ns: u64,
    files: u64,
    call: u64,
    task_status: u32,
    task: Typed,
}

impl Present {
    #[inline(always)]
    fn of_current() -> Self {
        // SAFETY: no arguments; the result is a trusted pointer to the current task.
        let task = unsafe { bpf_get_current_task_btf() };
        // SAFETY: `task` comes from the helper above.
        let registers = unsafe { bpf_task_pt_regs(task) };
        let task = Typed(task.cast_const().cast());
        Self {
            thread_started_ns: task.member(&offset::TASK_START),
            files: task.member(&offset::TASK_FILES),
            call: Typed(registers as *const u8).member(&offset::REGS_CALL),
            task_status: task.member(&offset::TASK_STATUS),
            task,
        }
    }

    /// The soft limit, as [`StormKey::limit`] has it.
    #[inline(always)]
    fn soft_limit(&self) -> u32 {
        let signal = self.task.follow(&offset::TASK_SIGNAL);
        let soft: u64 = signal.member(&offset::SIGNAL_NOFILE_SOFT);
        if soft > u64::from(u32::MAX) {
            u32::MAX
        } else {
            soft as u32
        }
    }
}

/// 1 where the kernel has the helpers that this takes, and the filters ask for nothing but processes: those that
/// they let through a moment ago they let through now. User, name and cgroup can change.
#[unsafe(no_mangle)]
static CAN_REPEAT: Global<u32> = Global::new(0);

#[inline(always)]
fn cell() -> Option<*mut RepeatCell> {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    REPEATS.get_ptr_mut(cpu)
}

/// Is this the failure that the CPU has seen last, in the same second? Then it has been counted. A hook that was told
/// of no limit takes the process's.
#[inline(always)]
pub(crate) fn count(limit: Option<u32>) -> bool {
    if CAN_REPEAT.load() == 0 {
        return false;
    }
    let Some(cell) = cell() else {
        return false;
    };
    let present = Present::of_current();
    let limit = match limit {
        Some(limit) => limit,
        None => present.soft_limit(),
    };
    // SAFETY: this CPU's own cell, which only this program writes.
    unsafe {
        if (*cell).tick != (&raw const (*cell).now).read_volatile()
            || (*cell).thread_started_ns != present.thread_started_ns
            || (*cell).key.files != present.files
            || (*cell).key.limit != limit
            || (*cell).call != present.call
            || (*cell).task_status != present.task_status
        {
            return false;
        }
        let pending = &raw mut (*cell).pending;
        pending.write_volatile(pending.read_volatile() + 1);
    }
    true
}

/// Ends what is repeated on this CPU: what has been counted of it is given to `settle`.
#[inline(always)]
pub(crate) fn end(settle: impl FnOnce(&StormKey, u64)) {
    if CAN_REPEAT.load() == 0 {
        return;
    }
    let Some(cell) = cell() else {
        return;
    };
    // SAFETY: as in `count`.
    unsafe {
        bump(cell);
        (*cell).tick = 0;
        let pending = (*cell).pending;
        if pending > 0 {
            settle(&(*cell).key, pending);
        }
        (&raw mut (*cell).pending).write_volatile(0);
        bump(cell);
    }
}

/// Begins to repeat a failure: it has been told or counted, and whatever there was before has ended.
#[inline(always)]
pub(crate) fn begin(key: &StormKey) {
    if CAN_REPEAT.load() == 0 {
        return;
    }
    let Some(cell) = cell() else {
        return;
    };
    let present = Present::of_current();
    // SAFETY: as in `count`.
    unsafe {
        bump(cell);
        (*cell).key = *key;
        (*cell).thread_started_ns = present.thread_started_ns;
        (*cell).call = present.call;
        (*cell).task_status = present.task_status;
        (*cell).tick = control::tick();
        bump(cell);
    }
}

/// # Safety
///
/// `cell` must be this CPU's own.
#[inline(always)]
unsafe fn bump(cell: *mut RepeatCell) {
    // SAFETY: the caller's promise.
    unsafe {
        let sequence = &raw mut (*cell).sequence;
        sequence.write_volatile(sequence.read_volatile().wrapping_add(1));
    }
}
