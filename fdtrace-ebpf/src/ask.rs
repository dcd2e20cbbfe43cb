//! What the user side asks of maps that hooks use, through a program in a test run.
//!
//! bpf(2) keeps the programs on kprobes of its CPU from being entered while it reads or writes an entry
//! (`bpf_disable_instrumentation` in include/linux/bpf.h, `trace_call_bpf` in `kernel/trace/bpf_trace.c`). Where the
//! kernel preempts it there, whatever else comes to that CPU is not seen: some thousands of calls in a time slice. A
//! test run keeps nobody off.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use fdtrace_common::ask::{ASK_ADD, ASK_STACKS, ASK_STORM, ASK_WATCHED, DONE};

use crate::{alarm, scope, stacks};

/// What has been asked for, and [`DONE`] where that could be done: what a program on a raw tracepoint returns is
/// thrown away. User space maps it.
#[map]
static ANSWER: Array<[u64; 2]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The first argument says what is asked for, the second one of what map; the others are the key. It is attached to
/// nothing, and run by `BPF_PROG_TEST_RUN`.
#[raw_tracepoint]
pub(crate) fn ask(ctx: RawTracePointContext) -> u32 {
    let arguments = ctx.as_ptr() as *const u64;
    // SAFETY: a raw tracepoint's context is an array of its arguments, of which a test run has twelve.
    let argument = |index| unsafe { arguments.add(index).read() };
    let (what, map) = (argument(0), argument(1));
    let Some(answer) = ANSWER.get_ptr_mut(0) else {
        return 0;
    };
    let [failures, done] = {
        let words = answer.cast::<u64>();
        // SAFETY: both words of the value.
        unsafe { [words, words.add(1)] }
    };
    let is_done = if map == ASK_STORM {
        // As `StormKey` has them, which is made of whole words.
        let key = [argument(2), argument(3), argument(4), argument(5), argument(6)];
        // SAFETY: a word of the map.
        alarm::asked(what, &key, |count| unsafe { failures.write_volatile(count) })
    } else if map == ASK_WATCHED {
        if what == ASK_ADD {
            scope::WATCHED.insert(argument(2), 1, 0).is_ok()
        } else {
            scope::WATCHED.remove(argument(2)).is_ok()
        }
    } else if map == ASK_STACKS {
        if what == ASK_ADD {
            stacks::STACK_TABLES.insert(argument(2), 0, u64::from(BPF_NOEXIST)).is_ok()
        } else {
            stacks::STACK_TABLES.remove(argument(2)).is_ok()
        }
    } else {
        false
    };
    if is_done {
        // SAFETY: as above.
        unsafe { done.write_volatile(DONE) };
    }
    0
}
