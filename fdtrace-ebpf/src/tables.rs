//! Tables: copied, executed, and the threads that use them.
//!
//! Sources: `dup_fd` and `exit_files` in fs/file.c, `setup_new_exec` and `__set_task_comm` in fs/exec.c,
//! `wake_up_new_task` in kernel/sched/core.c.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use fdtrace_common::{
    change::{
        self, BitsRecord, CHUNK, CopyRecord, LAST_THREAD, SlotsRecord, ThreadRecord, UNREAD, WORDS,
    },
    record::{
        RECORD_BOUND, RECORD_COPIED, RECORD_COPIED_SLOTS, RECORD_EXECUTED, RECORD_EXITED,
        RECORD_RENAMED,
    },
};

use crate::{
    HAS_LOOP,
    actor::Actor,
    call, control, kernel,
    kernel::{Address, Offset as _, Table, member, offset, read},
    repeat::{Turn, repeat},
    ring, scope, selects, stacks,
};

/// Slots of a copied table that are told.
const COPY_MAX: u32 = if HAS_LOOP {
    change::COPY_MAX
} else {
    change::COPY_MAX_UNROLLED
};
/// Slots of an executing process's table that are told.
const EXEC_MAX: u32 = if HAS_LOOP {
    change::EXEC_MAX
} else {
    change::EXEC_MAX_UNROLLED
};
/// Bytes of the slots in one record.
const CHUNK_BYTES: u32 = (CHUNK * 8) as u32;
/// Records that a copied table takes at most.
const CHUNKS: u32 = COPY_MAX / CHUNK as u32;
/// Bytes of the bits in one record.
const BITS_BYTES: u32 = (WORDS * 8) as u32;
/// Slots that they stand for.
const BITS: u32 = (WORDS * 64) as u32;
/// Records that such a table takes at most.
const BIT_RECORDS: u32 = EXEC_MAX / BITS;

/// The end of `dup_fd`: `files` is a copy of the current thread's table that nobody else can reach
/// yet, so that what it holds now is what it was made with.
#[inline(always)]
pub(crate) fn copied(files: Address) {
    let task = kernel::current_task();
    if !scope::tracks(kernel::current_files(), control::phase()) {
        return;
    }
    tell_copied(task, files);
    tell_slots(files);
}

#[inline(always)]
fn tell_copied(task: Address, files: Address) {
    let Some(mut entry) = ring::reserve::<CopyRecord>() else {
        return;
    };
    let actor = Actor::current();
    let unread = if Table::of(files).max_fds() > COPY_MAX {
        UNREAD
    } else {
        0
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a whole reserved record; each member is written once.
    unsafe {
        (&raw mut (*record).kind).write(RECORD_COPIED);
        (&raw mut (*record).flags).write(actor.flags | unread);
        (&raw mut (*record).time_ns).write(bpf_ktime_get_boot_ns());
        (&raw mut (*record).from).write(member(task, &offset::TASK_FILES));
        (&raw mut (*record).files).write(files);
        (&raw mut (*record).tgid).write(actor.tgid);
        (&raw mut (*record).tid).write(actor.tid);
        let call = call::current(task, kernel::entry_registers(task));
        (&raw mut (*record).call).write(call.code);
        (&raw mut (*record).uid).write(actor.uid);
    }
    ring::submit(entry);
}

/// The copy's slots, those that are all free left out.
#[inline(never)]
fn tell_slots(files: Address) -> i32 {
    let fdt: Address = member(files, &offset::FILES_FDT);
    let chunks = member::<u32>(fdt, &offset::FDT_MAX_FDS) / CHUNK as u32;
    if chunks > CHUNKS {
        return 0;
    }
    let mut work = Slots {
        files,
        pointers: member(fdt, &offset::FDT_FD),
        bits: member(fdt, &offset::FDT_OPEN_FDS),
    };
    repeat::<CHUNKS, _>(chunks, &mut work);
    0
}

/// Tells the slots of a table.
struct Slots {
    files: Address,
    pointers: Address,
    bits: Address,
}

impl Turn for Slots {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        if read::<u64>(self.bits + index * 8) == 0 {
            return;
        }
        let Some(mut entry) = ring::reserve::<SlotsRecord>() else {
            return;
        };
        let record = entry.as_mut_ptr();
        // SAFETY: `record` points to a whole reserved record; each member is written once, the slots
        // by the helper, which writes zeroes where it fails.
        unsafe {
            (&raw mut (*record).kind).write(RECORD_COPIED_SLOTS);
            (&raw mut (*record).first).write(index as u32 * CHUNK as u32);
            (&raw mut (*record).files).write(self.files);
            let from = self.pointers + index * u64::from(CHUNK_BYTES);
            kernel::copy((&raw mut (*record).slots).cast(), CHUNK_BYTES, from);
        }
        ring::submit(entry);
    }
}

/// `void setup_new_exec(struct linux_binprm *)`: exec cannot fail any more. The process has one thread,
/// its table no other user, and everything that exec closes, replaces or opens is done.
#[fentry]
pub(crate) fn exec_entry(_: FEntryContext) -> i32 {
    executed();
    0
}

/// The twin of [`exec_entry`].
#[kprobe]
pub(crate) fn exec_probe(_: ProbeContext) -> u32 {
    executed();
    0
}

#[inline(always)]
fn executed() {
    let task = kernel::current_task();
    if scope::tracks(kernel::current_files(), control::phase()) {
        tell_bits(task);
    }
    selects::forget();
    stacks::tell_program(task);
}

#[inline(never)]
fn tell_bits(task: Address) -> i32 {
    let files: Address = member(task, &offset::TASK_FILES);
    let fdt: Address = member(files, &offset::FILES_FDT);
    let words = member::<u32>(fdt, &offset::FDT_MAX_FDS) / 64;
    let records = words.div_ceil(WORDS as u32);
    // Not in the loop: the verifier would walk all of it once for each outcome of the filters.
    let mut actor = Actor::of_exec();
    // No branch, for the same reason: the sign of a difference.
    actor.flags |= (BIT_RECORDS.wrapping_sub(records) >> 31) * UNREAD;
    let mut work = Executed {
        files,
        words,
        bits: member(fdt, &offset::FDT_OPEN_FDS),
        actor,
    };
    repeat::<BIT_RECORDS, _>(records, &mut work);
    0
}

/// Tells the bits of a table.
struct Executed {
    files: Address,
    words: u32,
    bits: Address,
    actor: Actor,
}

impl Turn for Executed {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        let first = index as u32 * WORDS as u32;
        let left = self.words - first;
        let here = if left < WORDS as u32 {
            left
        } else {
            WORDS as u32
        };
        let Some(mut entry) = ring::reserve::<BitsRecord>() else {
            return;
        };
        let record = entry.as_mut_ptr();
        // SAFETY: as in `Slots`; what is read behind a smaller bitmap does not count.
        unsafe {
            (&raw mut (*record).kind).write(RECORD_EXECUTED);
            (&raw mut (*record).first).write(first * 64);
            (&raw mut (*record).time_ns).write(bpf_ktime_get_boot_ns());
            (&raw mut (*record).files).write(self.files);
            (&raw mut (*record).tgid).write(self.actor.tgid);
            (&raw mut (*record).tid).write(self.actor.tid);
            (&raw mut (*record).uid).write(self.actor.uid);
            (&raw mut (*record).flags).write(self.actor.flags);
            (&raw mut (*record).words).write(here);
            (&raw mut (*record).padding).write(0);
            let from = self.bits + u64::from(first) * 8;
            kernel::copy((&raw mut (*record).bits).cast(), BITS_BYTES, from);
        }
        ring::submit(entry);
    }
}

/// `void wake_up_new_task(struct task_struct *)`: a thread or process has been made, by the current
/// thread, and cannot have run yet.
#[fentry]
pub(crate) fn new_thread_entry(ctx: FEntryContext) -> i32 {
    thread(RECORD_BOUND, read(ctx.as_ptr() as Address));
    0
}

/// The twin of [`new_thread_entry`].
#[kprobe]
pub(crate) fn new_thread_probe(ctx: ProbeContext) -> u32 {
    thread(RECORD_BOUND, ctx.arg(0).unwrap_or(0));
    0
}

/// `void exit_files(struct task_struct *)`: a thread gives its table up.
#[fentry]
pub(crate) fn exit_entry(ctx: FEntryContext) -> i32 {
    exits(read(ctx.as_ptr() as Address));
    0
}

/// The twin of [`exit_entry`].
#[kprobe]
pub(crate) fn exit_probe(ctx: ProbeContext) -> u32 {
    exits(ctx.arg(0).unwrap_or(0));
    0
}

/// A fork that fails takes back what it has made so far, by the same function: there the thread is not
/// the current one, was never told, and still has its creator's number (`copy_process` in kernel/fork.c;
/// from some 6.12 on also where it has got no table yet).
#[inline(always)]
fn exits(task: Address) {
    if task == kernel::current_task() {
        thread(RECORD_EXITED, task);
    }
}

/// `void __set_task_comm(struct task_struct *, const char *name, bool exec)`.
#[fentry]
pub(crate) fn rename_entry(ctx: FEntryContext) -> i32 {
    let arguments = ctx.as_ptr() as Address;
    tell_thread(RECORD_RENAMED, read(arguments), read(arguments + 8));
    0
}

/// The twin of [`rename_entry`].
#[kprobe]
pub(crate) fn rename_probe(ctx: ProbeContext) -> u32 {
    let argument = |index| ctx.arg::<u64>(index).unwrap_or(0);
    tell_thread(RECORD_RENAMED, argument(0), argument(1));
    0
}

#[inline(always)]
fn thread(kind: u32, task: Address) {
    tell_thread(kind, task, task + u64::from(offset::TASK_COMM.load()));
}

#[inline(always)]
fn tell_thread(kind: u32, task: Address, name: Address) {
    let files: Address = member(task, &offset::TASK_FILES);
    if !scope::tracks(files, control::phase()) {
        return;
    }
    let Some(mut entry) = ring::reserve::<ThreadRecord>() else {
        return;
    };
    let actor = Actor::current();
    let signal: Address = member(task, &offset::TASK_SIGNAL);
    let leader: Address = member(task, &offset::TASK_GROUP_LEADER);
    let last = if kind == RECORD_EXITED && member::<u32>(signal, &offset::SIGNAL_LIVE) == 0 {
        LAST_THREAD
    } else {
        0
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a whole reserved record; each member is written once.
    unsafe {
        (&raw mut (*record).kind).write(kind);
        (&raw mut (*record).flags).write(actor.flags | last);
        (&raw mut (*record).time_ns).write(bpf_ktime_get_boot_ns());
        (&raw mut (*record).files).write(files);
        (&raw mut (*record).started_ns).write(member(leader, &offset::TASK_START));
        (&raw mut (*record).tgid).write(member(task, &offset::TASK_TGID));
        (&raw mut (*record).tid).write(member(task, &offset::TASK_PID));
        (&raw mut (*record).creator).write(actor.tid);
        (&raw mut (*record).uid).write(actor.uid);
        kernel::copy((&raw mut (*record).comm).cast(), 16, name);
    }
    ring::submit(entry);
}
