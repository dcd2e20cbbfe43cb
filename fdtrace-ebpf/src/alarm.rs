//! The alarm: one failed request for an fd becomes a record, or a count in a storm.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_smp_processor_id,
            bpf_ktime_get_boot_ns,
        },
    },
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use aya_log_ebpf::debug;
use fdtrace_common::{
    ask::ASK_REMOVE,
    alarm::{AlarmRecord, HOOK_ALLOC_FD, HOOK_OWN_LIMIT, HOOK_SYS_EXIT, StormCell, StormKey},
    control::{COUNTER_RING_FULL, COUNTER_STORMS_FULL, PHASE_SELF_TEST},
    record::RECORD_ALARM,
};

use crate::{
    call::{self, Call},
    control, held,
    kernel::{self, Address, member, offset},
    paths, repeats, ring, scope, seccomp, self_test, stacks,
};

/// Failures by kind and CPU. Entries leave when their process has ended: the user side removes them.
///
/// The CPU is part of the key, and this no per-CPU map: of those the kernel allocates each entry on all CPUs
/// when it makes the map, which took 75 ms of instructions for 8 192 of them on one CPU (6.1).
#[map]
static STORMS: HashMap<StormKey, StormCell> = HashMap::with_max_entries(16_384, 0);

/// Threads in a call of which an alarm has already told why it fails.
#[map]
static TOLD: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1_024, 0);

/// Where a record is put together.
///
/// One for each CPU is enough: a program that could lose its CPU sits on a kprobe, and keeps it
/// (`fdtrace::probe::preemption`); census has a single one, of which the kernel keeps a second run off.
#[map]
static ALARM_ROOM: PerCpuArray<AlarmRecord> = PerCpuArray::with_max_entries(1, 0);

/// What a hook knows about a failure.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    /// A `HOOK_` constant.
    pub(crate) hook: u32,
    /// Positive.
    pub(crate) errno: u32,
    /// The limit that the kernel applied, where the hook was told.
    pub(crate) limit: Option<u32>,
}

/// Takes a failure in the current thread: counts it, and tells it if it is time to.
///
/// `registers` are those the thread entered the kernel with.
#[inline(always)]
pub(crate) fn raise(failure: Failure, registers: Address) {
    if !scope::watches_current() {
        return;
    }
    let task = kernel::current_task();
    let call = call::current(task, registers);
    if control::phase() != PHASE_SELF_TEST && self_test::is_marked(task, call) {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    // What a thread left behind in a call whose own hook could not be attached is not for others.
    if failure.hook != HOOK_SYS_EXIT && call::has_own_limit(call) {
        if failure.hook != HOOK_OWN_LIMIT {
            // Full or not, the map's answer changes nothing here: at worst a call is told twice.
            let _ = TOLD.insert(thread, 1, 0);
        } else if TOLD.get_ptr(thread).is_some() {
            let _ = TOLD.remove(thread);
            return;
        }
    }
    let Some(record) = ALARM_ROOM.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own record.
    let key = unsafe { &raw mut (*record).key };
    // SAFETY: as above; each member is written.
    unsafe { fill(key, task, call, failure) };
    // SAFETY: as above.
    let here = unsafe { &*key };
    let is_repeatable = failure.hook == HOOK_ALLOC_FD;
    if is_repeatable {
        repeats::end(add);
    }
    let Some(Counted { failures, pause }) = count(here) else {
        return;
    };
    if is_repeatable && !call::has_own_limit(call) {
        repeats::begin(here);
    }
    if pause > 0 {
        // SAFETY: as above.
        unsafe {
            (&raw mut (*record).key.cpu).write(0);
            (&raw mut (*record).failures).write(failures);
        }
        tell(record, registers, pause);
    }
}

/// Writes what kind of failure it is, on this CPU. Where it is needed, and not on the stack: of that, programs and
/// what they call have 512 bytes together.
///
/// # Safety
///
/// `key` must be valid for writes.
#[inline(always)]
unsafe fn fill(key: *mut StormKey, task: Address, call: Call, failure: Failure) {
    let signal: Address = member(task, &offset::TASK_SIGNAL);
    let soft: u64 = member(signal, &offset::SIGNAL_NOFILE_SOFT);
    let leader: Address = member(task, &offset::TASK_GROUP_LEADER);
    let limit = match failure.limit {
        Some(limit) => limit,
        None if soft > u64::from(u32::MAX) => u32::MAX,
        None => soft as u32,
    };
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*key).files).write(member(task, &offset::TASK_FILES));
        (&raw mut (*key).started_ns).write(member(leader, &offset::TASK_START));
        (&raw mut (*key).tgid).write((bpf_get_current_pid_tgid() >> 32) as u32);
        (&raw mut (*key).call).write(call.code);
        (&raw mut (*key).hook).write(failure.hook);
        (&raw mut (*key).errno).write(failure.errno);
        (&raw mut (*key).limit).write(limit);
        (&raw mut (*key).cpu).write(bpf_get_smp_processor_id());
    }
}

/// What counting a failure has come to.
#[derive(Clone, Copy)]
struct Counted {
    /// Failures of its kind on this CPU, this one included.
    failures: u64,
    /// Ticks since one of them was told: 0 where this one is only counted, [`FIRST`] where it is the first.
    pause: u64,
}

/// See [`Counted::pause`].
const FIRST: u64 = u64::MAX;
/// After so many ticks without a failure the next one begins an exhaustion of its own, of whose table something
/// else may be true: user space takes five seconds for a quiet time (`fdtrace::model::storms`).
const QUIET: u64 = 5;
/// Census knows tables as they were up to some seconds ago: the table is told again as soon as it may have been
/// anything else in between. While failures go on, it is what it was.
const QUIET_IN_CENSUS: u64 = 2;

/// Adds failures to those of a kind on a CPU; of one that the user side has removed, it knows them.
#[inline(always)]
fn add(key: &StormKey, failures: u64) {
    if let Some(cell) = STORMS.get_ptr_mut(key) {
        // SAFETY: as in `count`.
        unsafe { (*cell).failures += failures };
    }
}

/// What the user side asks of the map, by the words of a key: reads an entry, or removes it. Was it there?
#[inline(always)]
pub(crate) fn asked(what: u64, key: &[u64; STORM_KEY_WORDS], answer: impl FnOnce(u64)) -> bool {
    // SAFETY: whole words, of which the key is made (see below).
    let key = unsafe { &*core::ptr::from_ref(key).cast::<StormKey>() };
    if what == ASK_REMOVE {
        return STORMS.remove(key).is_ok();
    }
    let Some(cell) = STORMS.get_ptr(key) else {
        return false;
    };
    // SAFETY: an entry of the map's.
    answer(unsafe { (&raw const (*cell).failures).read_volatile() });
    true
}

/// Words of a [`StormKey`].
pub(crate) const STORM_KEY_WORDS: usize = 5;
const _: () = assert!(size_of::<StormKey>() == STORM_KEY_WORDS * 8);

/// Counts a failure of this CPU's. `None`: there was no room to count it.
#[inline(always)]
fn count(key: &StormKey) -> Option<Counted> {
    let tick = control::tick();
    if let Some(cell) = STORMS.get_ptr_mut(key) {
        // SAFETY: this CPU's own cell. The program's recursion guard keeps a second run of it off
        // this CPU, even where programs can be preempted.
        unsafe {
            (*cell).failures += 1;
            let pause = tick.wrapping_sub((*cell).tick);
            (*cell).tick = tick;
            return Some(Counted {
                failures: (*cell).failures,
                pause,
            });
        }
    }
    let first = StormCell { failures: 1, tick };
    if STORMS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        return Some(Counted {
            failures: 1,
            pause: FIRST,
        });
    }
    control::count(COUNTER_STORMS_FULL);
    None
}

/// Writes the rest of a record and hands it over. A function of its own, so that each program holds its code
/// once.
///
/// What kind of failure it is comes with the record: of memory no verifier knows anything, while of values it
/// remembers each of the dozens of ways that lead here, and would walk all this once for each. That it is in no
/// ring yet has the same reason: while a program holds room in one, verifiers up to 6.1 take no two states for
/// the same (`refsafe` in kernel/bpf/verifier.c).
#[inline(never)]
fn tell(record: *mut AlarmRecord, registers: Address, pause: u64) {
    // SAFETY: as in `raise`, which has written both.
    let (key, failures) = unsafe {
        (
            (&raw const (*record).key).read_volatile(),
            (&raw const (*record).failures).read_volatile(),
        )
    };
    debug!(
        &(),
        "hook {} errno {} call {} process {} failure {}",
        key.hook,
        key.errno,
        key.call,
        key.tgid,
        failures
    );
    let quiet = if key.hook == HOOK_SYS_EXIT {
        QUIET_IN_CENSUS
    } else {
        QUIET
    };
    if pause >= quiet {
        held::tell(key.files, key.hook);
        stacks::tell_failing(key.files);
    }
    let task = kernel::current_task();
    let signal: Address = member(task, &offset::TASK_SIGNAL);
    let call = Call {
        code: key.call,
        registers,
    };
    // SAFETY: as in `raise`; each of the other members is written once.
    unsafe {
        // The components serve as room for counting before they are filled.
        let scratch = (&raw mut (*record).exe).cast::<[u64; 64]>();
        (&raw mut (*record).kind).write(RECORD_ALARM);
        seccomp::flags(record, task);
        (&raw mut (*record).time_ns).write(bpf_ktime_get_boot_ns());
        (&raw mut (*record).cgroup_id).write(bpf_get_current_cgroup_id());
        (&raw mut (*record).soft).write(member(signal, &offset::SIGNAL_NOFILE_SOFT));
        (&raw mut (*record).hard).write(member(signal, &offset::SIGNAL_NOFILE_HARD));
        (&raw mut (*record).arguments).write(call.arguments());
        (&raw mut (*record).cpu).write(bpf_get_smp_processor_id());
        (&raw mut (*record).tid).write(bpf_get_current_pid_tgid() as u32);
        (&raw mut (*record).uid).write(bpf_get_current_uid_gid() as u32);
        let table = kernel::Table::of(key.files);
        (&raw mut (*record).used).write(table.used());
        (&raw mut (*record).open).write(table.open(scratch));
        (&raw mut (*record).max_fds).write(table.max_fds());
        bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
        let truncated = paths::executable(task, &raw mut (*record).exe);
        (&raw mut (*record).exe_truncated).write(truncated);
        let truncated = paths::cgroup(task, &raw mut (*record).cgroup);
        (&raw mut (*record).cgroup_truncated).write(truncated);
    }
    // SAFETY: the whole record has been written.
    let is_told = unsafe { ring::output(record.cast(), size_of::<AlarmRecord>() as u64, true) };
    if !is_told {
        control::count(COUNTER_RING_FULL);
    }
}
