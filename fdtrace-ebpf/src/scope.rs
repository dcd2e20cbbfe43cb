//! Which processes are watched: pid set, cgroups, name and user, decided before anything is read.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_get_current_comm},
    macros::{map, raw_tracepoint},
    maps::{CgroupArray, HashMap},
    programs::RawTracePointContext,
};
use fdtrace_common::control::{
    CGROUPS_MAX, COUNTER_FOLLOW_FULL, COUNTER_SHED, PHASE_ARMED, PHASE_SELF_TEST, WATCHED_MAX,
};

use crate::{
    control,
    kernel::{self, Address, member, offset},
};

/// fdtrace's own process.
#[unsafe(no_mangle)]
static SELF_TGID: Global<u32> = Global::new(0);
/// 1: only processes in [`PIDS`].
#[unsafe(no_mangle)]
static FILTER_PIDS: Global<u32> = Global::new(0);
/// 1: children join [`PIDS`].
#[unsafe(no_mangle)]
static FOLLOW: Global<u32> = Global::new(0);
/// How many entries of [`CGROUPS`] are set; 0: any cgroup.
#[unsafe(no_mangle)]
static FILTER_CGROUPS: Global<u32> = Global::new(0);
/// 1: only threads of the user [`UID`].
#[unsafe(no_mangle)]
static FILTER_UID: Global<u32> = Global::new(0);
/// See [`FILTER_UID`].
#[unsafe(no_mangle)]
static UID: Global<u32> = Global::new(0);
/// The text that a thread's name must contain, as two little-endian words, and which of their bytes
/// count; a mask of 0: any name.
#[unsafe(no_mangle)]
static COMM_LOW: Global<u64> = Global::new(0);
/// See [`COMM_LOW`].
#[unsafe(no_mangle)]
static COMM_HIGH: Global<u64> = Global::new(0);
/// See [`COMM_LOW`].
#[unsafe(no_mangle)]
static COMM_MASK_LOW: Global<u64> = Global::new(0);
/// See [`COMM_LOW`].
#[unsafe(no_mangle)]
static COMM_MASK_HIGH: Global<u64> = Global::new(0);

/// The watched processes, and with [`FOLLOW`] their descendants.
#[map]
static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(65_536, 0);

/// The watched cgroups; descendants belong to them.
#[map]
static CGROUPS: CgroupArray = CgroupArray::with_max_entries(CGROUPS_MAX, 0);

/// Tables that are followed even while there are more changes than can be read, by address.
#[map]
static WATCHED: HashMap<u64, u8> = HashMap::with_max_entries(WATCHED_MAX, 0);

/// Is the current thread watched?
#[inline(always)]
pub(crate) fn watches_current() -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if control::phase() == PHASE_SELF_TEST {
        return tgid == SELF_TGID.load();
    }
    is_asked_for()
}

/// Are the changes that the current thread makes in a table followed? Everybody's are, but for
/// the self-test, and while there are more of them than can be read.
#[inline(always)]
pub(crate) fn tracks(files: Address, phase: u32) -> bool {
    match phase {
        PHASE_ARMED => true,
        PHASE_SELF_TEST => is_own(kernel::current_task()),
        _ => is_watched(files),
    }
}

#[inline(always)]
fn is_watched(files: Address) -> bool {
    let is_watched = WATCHED.get_ptr(files).is_some();
    if !is_watched {
        control::count(COUNTER_SHED);
    }
    is_watched
}

/// Is a thread fdtrace's own, or a child's?
#[inline(always)]
fn is_own(task: Address) -> bool {
    let own = SELF_TGID.load();
    let parent: Address = member(task, &offset::TASK_PARENT);
    member::<u32>(task, &offset::TASK_TGID) == own
        || member::<u32>(parent, &offset::TASK_TGID) == own
}

/// Do the filters let the current thread through?
#[inline(always)]
pub(crate) fn is_asked_for() -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if FILTER_PIDS.load() == 1 && PIDS.get_ptr(tgid).is_none() {
        return false;
    }
    if FILTER_UID.load() == 1 && bpf_get_current_uid_gid() as u32 != UID.load() {
        return false;
    }
    if COMM_MASK_LOW.load() != 0 && !comm_matches() {
        return false;
    }
    FILTER_CGROUPS.load() == 0 || in_a_cgroup()
}

/// Is this process one of those asked for? An iterator's own process is the reader's, so that the
/// other filters are applied on the user side.
#[inline(always)]
pub(crate) fn lists(tgid: u32) -> bool {
    FILTER_PIDS.load() != 1 || PIDS.get_ptr(tgid).is_some()
}

#[inline(always)]
fn in_a_cgroup() -> bool {
    for index in 0..CGROUPS_MAX {
        if index >= FILTER_CGROUPS.load() {
            break;
        }
        if CGROUPS.current_task_under_cgroup(index) == Ok(true) {
            return true;
        }
    }
    false
}

/// Does the name contain the wanted text? Slides the 16 bytes past it, without a branch a byte.
#[inline(always)]
fn comm_matches() -> bool {
    let mut comm = [0_u64; 2];
    // SAFETY: the buffer is 16 bytes, TASK_COMM_LEN.
    unsafe { bpf_get_current_comm((&raw mut comm).cast(), 16) };
    let [mut low, mut high] = comm;
    let mut found = 0_u64;
    for _ in 0..16 {
        let difference = ((low ^ COMM_LOW.load()) & COMM_MASK_LOW.load())
            | ((high ^ COMM_HIGH.load()) & COMM_MASK_HIGH.load());
        found |= u64::from(difference == 0);
        low = (low >> 8) | (high << 56);
        high >>= 8;
    }
    found != 0
}

/// A thread was made: a watched process's child joins the set before it can run.
#[raw_tracepoint]
pub(crate) fn follow_newtask(ctx: RawTracePointContext) -> u32 {
    if FOLLOW.load() == 1 {
        let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
        let child: u32 = member(ctx.arg::<*const u8>(0) as Address, &offset::TASK_TGID);
        if child != parent && PIDS.get_ptr(parent).is_some() && PIDS.insert(child, 1, 0).is_err() {
            control::count(COUNTER_FOLLOW_FULL);
        }
    }
    0
}

/// A thread ended: with its process's last thread the pid is free for anybody.
#[raw_tracepoint]
pub(crate) fn follow_exit(ctx: RawTracePointContext) -> u32 {
    let task = ctx.arg::<*const u8>(0) as Address;
    let signal: Address = member(task, &offset::TASK_SIGNAL);
    let live: u32 = member(signal, &offset::SIGNAL_LIVE);
    if live == 0 {
        let tgid: u32 = member(task, &offset::TASK_TGID);
        // Absent is the ordinary case: every process's end comes by here.
        let _ = PIDS.remove(tgid);
    }
    0
}
