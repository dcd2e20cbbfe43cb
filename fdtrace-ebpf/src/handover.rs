//! From any probe that has seen a failure to the one program that raises it for all of them.
//!
//! To raise an alarm takes more instructions than all else that a hook does, and kernels verify them anew in
//! each program: 45 ms of instructions on 6.1, 170 on 7.2. Programs on kprobes can leave it to another of
//! their type by a tail call. Those on trampolines cannot: each has the type of its function.

use aya_ebpf::{
    EbpfContext,
    macros::{kretprobe, map},
    maps::{PerCpuArray, ProgramArray},
    programs::RetProbeContext,
};
use fdtrace_common::control::COUNTER_STORMS_FULL;

use crate::{alarm::Failure, control, exhaustion::raise_here};

/// The program, [`raise_return`], put there by the user side.
#[map]
static RAISE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Hook and errno, from one program to the other: nothing takes the CPU from a probe.
#[map]
static FAILED: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Has a failure raised that has no limit of its own. Nothing is done behind it.
#[inline(always)]
pub(crate) fn hand_over(ctx: &impl EbpfContext, failure: Failure) {
    if let Some(failed) = FAILED.get_ptr_mut(0) {
        // SAFETY: this CPU's own words; and the programs are of one type, with the same context.
        unsafe {
            *failed = [failure.hook, failure.errno];
            RAISE.tail_call(ctx, 0);
        }
    }
    // The program is not there.
    control::count(COUNTER_STORMS_FULL);
}

/// Raises what has been handed over, in the same call of the same thread.
#[kretprobe]
pub(crate) fn raise_return(_: RetProbeContext) -> u32 {
    if let Some(failed) = FAILED.get_ptr(0) {
        // SAFETY: as above.
        let [hook, errno] = unsafe { *failed };
        raise_here(Failure {
            hook,
            errno,
            limit: None,
        });
    }
    0
}
