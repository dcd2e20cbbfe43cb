//! Which processes call select(2), and for how many fds: such a program does not survive fds above 1023.
//!
//! With hooks, at `core_sys_select` (fs/select.c), to which only select and pselect come: nobody else pays.
//! In census, from the registers of every thread that the task iterator comes by, which costs the traced programs
//! nothing and sees who waits; and at the end of system calls for some seconds after a failure.

use aya_ebpf::{
    Global,
    helpers::bpf_get_current_pid_tgid,
    macros::{fentry, kprobe, map},
    maps::{Array, LruHashMap},
    programs::{FEntryContext, ProbeContext},
};
use fdtrace_common::{
    control::PHASE_SELF_TEST,
    select::{SELECT_CALLS, SELECTS_MAX, SelectCell},
};

use crate::{
    call::{self, Call},
    control,
    kernel::{self, Address, member, offset},
    scope,
};

/// By process.
#[map]
static SELECTS: LruHashMap<u32, SelectCell> = LruHashMap::with_max_entries(SELECTS_MAX, 0);

/// In which tick a call failed last; 0: in none.
#[map]
static LAST_FAILURE: Array<u64> = Array::with_max_entries(1, 0);

/// Ticks after a failure in which census looks at the end of every call.
const LOOKED_AT: u64 = 10;

/// Numbers of select and pselect6, native ones and those of 32-bit programs with their flag.
#[unsafe(no_mangle)]
static NR_SELECT: Global<[u32; SELECT_CALLS]> = Global::new([u32::MAX; SELECT_CALLS]);

/// `int core_sys_select(int n, fd_set __user *inp, …)`, and the same for 32-bit programs
/// (`compat_core_sys_select`).
#[fentry]
pub(crate) fn select_entry(ctx: FEntryContext) -> i32 {
    called(ctx.arg(0));
    0
}

/// Its kprobe counterpart.
#[kprobe]
pub(crate) fn select_probe(ctx: ProbeContext) -> u32 {
    called(ctx.arg(0).unwrap_or(0));
    0
}

/// See [`select_entry`].
#[fentry]
pub(crate) fn compat_select_entry(ctx: FEntryContext) -> i32 {
    called(ctx.arg(0));
    0
}

/// Its kprobe counterpart.
#[kprobe]
pub(crate) fn compat_select_probe(ctx: ProbeContext) -> u32 {
    called(ctx.arg(0).unwrap_or(0));
    0
}

#[inline(always)]
fn called(count: i32) {
    if count > 0 {
        let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        note(tgid, kernel::current_started(), count as u32);
    }
}

/// The process waits for fds below `count`.
#[inline(always)]
fn note(tgid: u32, started_ns: u64, count: u32) {
    if let Some(cell) = SELECTS.get_ptr_mut(tgid) {
        // SAFETY: a map's value. Where two threads write at the same time, the larger number may get lost until
        // the next call.
        unsafe {
            if (*cell).started_ns != started_ns {
                (*cell).most = 0;
                (*cell).started_ns = started_ns;
            }
            if (*cell).most < count {
                (*cell).most = count;
            }
        }
        return;
    }
    let cell = SelectCell {
        started_ns,
        most: count,
        padding: 0,
    };
    // A map of this kind is never full.
    let _ = SELECTS.insert(tgid, cell, 0);
}

/// The current process executes another program: what the one before has called does not count.
#[inline(always)]
pub(crate) fn forget() {
    // Absent is the ordinary case.
    let _ = SELECTS.remove((bpf_get_current_pid_tgid() >> 32) as u32);
}

/// A call has failed in the current thread: it may not have been seen yet whether its process calls select.
#[inline(always)]
pub(crate) fn failed() {
    if control::phase() != PHASE_SELF_TEST
        && scope::is_asked_for()
        && let Some(last) = LAST_FAILURE.get_ptr_mut(0) {
        // SAFETY: a map's value, a whole word.
        unsafe { last.write_volatile(control::tick()) };
    }
}

/// The end of a system call, with its registers. Looked at for some seconds after a failure only: to read them
/// for each call would make all calls of the host dearer.
#[inline(always)]
pub(crate) fn ended(registers: Address) {
    let Some(last) = LAST_FAILURE.get_ptr(0) else {
        return;
    };
    // SAFETY: as above.
    let last = unsafe { last.read_volatile() };
    if last != 0 && control::tick().wrapping_sub(last) < LOOKED_AT {
        look(kernel::current_task(), registers);
    }
}

/// Is this thread in select, or was that its last call? `registers`: those it entered the kernel with.
#[inline(always)]
pub(crate) fn look(task: Address, registers: Address) {
    let call = call::current(task, registers);
    if !is_select(call) {
        return;
    }
    let [count, ..] = call.arguments();
    let count = count as i32;
    if count > 0 {
        let leader: Address = member(task, &offset::TASK_GROUP_LEADER);
        let started_ns = member(leader, &offset::TASK_START);
        note(member(task, &offset::TASK_TGID), started_ns, count as u32);
    }
}

#[inline(always)]
fn is_select(call: Call) -> bool {
    let mut found = false;
    for number in NR_SELECT.load() {
        found |= number == call.code;
    }
    found
}
