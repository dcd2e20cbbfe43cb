//! Who makes a change: the current thread.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_ktime_get_boot_ns,
    },
};
use fdtrace_common::change::IN_SCOPE;

use crate::{call, kernel, scope};

/// 1: single changes are shown, with the user and the call behind each.
#[unsafe(no_mangle)]
static DETAILS: Global<u32> = Global::new(0);

/// Are single changes shown?
#[inline(always)]
pub(crate) fn shows_details() -> bool {
    DETAILS.load() == 1
}

/// When a change happens, nanoseconds since boot; 0 where single changes are not shown: the time at which the
/// reader comes by is near enough then, and the clock is a third of what a record costs.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    if shows_details() {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    } else {
        0
    }
}

/// What a record says of the thread that caused it.
pub(crate) struct Actor {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    /// 0 unless single changes are shown.
    pub(crate) uid: u32,
    /// 0 unless single changes are shown.
    pub(crate) call: u32,
    /// [`IN_SCOPE`] or 0.
    pub(crate) flags: u32,
}

impl Actor {
    /// The current thread.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let mut actor = Self::of_exec();
        if shows_details() {
            let task = kernel::current_task();
            actor.call = call::current(task, kernel::entry_registers(task)).code;
        }
        actor
    }

    /// The same without the call: exec's registers are the new program's.
    #[inline(always)]
    pub(crate) fn of_exec() -> Self {
        let thread = bpf_get_current_pid_tgid();
        let mut actor = Self {
            tgid: (thread >> 32) as u32,
            tid: thread as u32,
            uid: 0,
            call: 0,
            flags: IN_SCOPE,
        };
        if shows_details() {
            actor.uid = bpf_get_current_uid_gid() as u32;
            // The tables of all processes are followed, whoever is shown: what a process has may come
            // from any other one.
            if !scope::is_asked_for() {
                actor.flags = 0;
            }
        }
        actor
    }
}
