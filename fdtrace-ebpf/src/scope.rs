//! Which processes are watched: pid set, cgroups, name and user, decided before anything is read.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_probe_read_kernel,
            bpf_probe_read_kernel_str,
        },
    },
    macros::{map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use fdtrace_common::control::{
    CGROUP_IDS_MAX, CGROUP_PATH_SIZE, CGROUPS_MAX, COUNTER_FOLLOW_FULL, COUNTER_SHED, PHASE_ARMED,
    PHASE_SELF_TEST, WATCHED_MAX,
};

use crate::{
    control,
    kernel::{self, Address, Offset as _, member, offset},
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
/// 1: only processes in [`CGROUPS`].
#[unsafe(no_mangle)]
static FILTER_CGROUPS: Global<u32> = Global::new(0);
/// 1: only threads of the user [`UID`].
#[unsafe(no_mangle)]
static FILTER_UID: Global<u32> = Global::new(0);
/// See [`FILTER_UID`].
#[unsafe(no_mangle)]
static UID: Global<u32> = Global::new(0);
/// The text that the name of the thread or of its process must contain, as two little-endian words, and which of
/// their bytes count; a mask of 0: any name.
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

/// The ids of the watched cgroups and of all below them, as `bpf_get_current_cgroup_id` tells them.
#[map]
static CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(CGROUP_IDS_MAX, 0);

/// A cgroup's path from the root of the v2 hierarchy, with zeroes behind it.
type CgroupPath = [u8; CGROUP_PATH_SIZE];

/// The paths that were asked for: a cgroup that is made there is watched.
#[map]
static CGROUP_PATHS: HashMap<CgroupPath, u8> = HashMap::with_max_entries(CGROUPS_MAX, 0);

/// Room for the path of a cgroup that is being made, and zeroes to clear it with. The kernel makes one at a time.
#[map]
static CGROUP_ROOM: Array<CgroupPath> = Array::with_max_entries(2, 0);

/// Tables that are followed even while there are more changes than can be read, by address.
#[map]
pub(crate) static WATCHED: HashMap<u64, u8> = HashMap::with_max_entries(WATCHED_MAX, 0);

/// Is the current thread watched?
#[inline(always)]
pub(crate) fn watches_current() -> bool {
    if control::phase() == PHASE_SELF_TEST {
        return is_own(kernel::current_task());
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
    // SAFETY: no arguments.
    CGROUPS
        .get_ptr(unsafe { bpf_get_current_cgroup_id() })
        .is_some()
}

/// Does the name of the current thread, or that of its process, contain the wanted text? A process has the name of
/// its leader, whatever its other threads are called.
#[inline(always)]
fn comm_matches() -> bool {
    let mut thread = [0_u64; 2];
    // SAFETY: the buffer is 16 bytes, TASK_COMM_LEN.
    unsafe { bpf_get_current_comm((&raw mut thread).cast(), 16) };
    let leader: Address = member(kernel::current_task(), &offset::TASK_GROUP_LEADER);
    let mut process = [0_u64; 2];
    let name = leader + u64::from(offset::TASK_COMM.load());
    // SAFETY: as above. Up to the NUL: what lies behind it may be left from a longer name.
    unsafe { bpf_probe_read_kernel_str((&raw mut process).cast(), 16, name as *const c_void) };
    // No branch between the two, behind which the verifier would walk everything once more.
    contains(thread) | contains(process)
}

/// Slides the 16 bytes past the wanted text, without a branch a byte.
#[inline(always)]
fn contains([mut low, mut high]: [u64; 2]) -> bool {
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

/// `cgroup_mkdir(struct cgroup *, const char *path)`: it is watched where its parent is, and where it has a path that
/// was asked for. The kernel makes it visible to processes only behind this (`cgroup_mkdir` in
/// kernel/cgroup/cgroup.c holds `cgroup_mutex`, 4.17 to 7.2), so that none is missed in it.
#[raw_tracepoint]
pub(crate) fn cgroup_made(ctx: RawTracePointContext) -> u32 {
    let group = ctx.arg::<*const u8>(0) as Address;
    if !is_v2(group) {
        return 0;
    }
    let node: Address = member(group, &offset::CGROUP_NODE);
    let parent: Address = member(node, &offset::NODE_PARENT);
    let is_below = CGROUPS.get_ptr(id(parent)).is_some();
    if (is_below || is_asked_path(ctx.arg::<*const u8>(1)))
        && CGROUPS.insert(id(node), 1, 0).is_err()
    {
        control::count(COUNTER_FOLLOW_FULL);
    }
    0
}

/// `cgroup_rmdir(struct cgroup *, const char *path)`: no process is left in it, and its id never comes again.
#[raw_tracepoint]
pub(crate) fn cgroup_removed(ctx: RawTracePointContext) -> u32 {
    let group = ctx.arg::<*const u8>(0) as Address;
    if is_v2(group) {
        // Absent is the ordinary case: every cgroup's end comes by here.
        let _ = CGROUPS.remove(id(member(group, &offset::CGROUP_NODE)));
    }
    0
}

/// Is a cgroup one of the v2 hierarchy, in which each thread has its place? Ids of other hierarchies are other ones'.
#[inline(always)]
fn is_v2(group: Address) -> bool {
    let set: Address = member(kernel::current_task(), &offset::TASK_CGROUPS);
    let own: Address = member(set, &offset::CSS_SET_CGROUP);
    member::<Address>(group, &offset::CGROUP_ROOT) == member::<Address>(own, &offset::CGROUP_ROOT)
}

/// The id of a cgroup, by its node (`cgroup_id` in include/linux/cgroup.h).
#[inline(always)]
fn id(node: Address) -> u64 {
    member(node, &offset::NODE_ID)
}

/// Is this one of [`CGROUP_PATHS`]?
#[inline(always)]
fn is_asked_path(path: *const u8) -> bool {
    let (Some(room), Some(zeroes)) = (CGROUP_ROOM.get_ptr_mut(0), CGROUP_ROOM.get_ptr(1)) else {
        return false;
    };
    // SAFETY: both are entries of the map, of that size. The kernel holds a lock around the tracepoint
    // (`trace_cgroup_path_lock` in kernel/cgroup/cgroup-internal.h), so that nobody else uses the room.
    unsafe {
        bpf_probe_read_kernel(room.cast(), CGROUP_PATH_SIZE as u32, zeroes.cast());
        bpf_probe_read_kernel_str(room.cast(), CGROUP_PATH_SIZE as u32, path.cast());
        #[expect(
            clippy::needless_borrows_for_generic_args,
            reason = "without the borrow the path would be copied to the stack, which is as large as it"
        )]
        let is_wanted = CGROUP_PATHS.get_ptr(&*room).is_some();
        is_wanted
    }
}
