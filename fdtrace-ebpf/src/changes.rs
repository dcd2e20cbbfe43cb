//! Single changes: the hooks through which every file comes into a slot, and leaves it, as records.
//!
//! Sources: `fd_install`, `do_dup2`, `file_close_fd_locked`, `pick_file` and `__close_fd_get_file` in
//! fs/file.c. That the order of the records is the order of the changes is told in `probe::plan`.

use aya_ebpf::{
    EbpfContext, Global,
    helpers::bpf_get_current_pid_tgid,
    macros::{fentry, fexit, kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use fdtrace_common::{
    change::{ANY_FILE, CloseRecord, MAYBE_TOLD, OpenRecord},
    control::COUNTER_PENDING_FULL,
    record::{RECORD_CLOSED, RECORD_OPENED, RECORD_REPLACED},
};

use crate::{
    actor::{self, Actor},
    control::{self, Orders},
    identity,
    kernel::{self, Address, Pointer, Table, Typed, read},
    ring, scope, stacks,
};

/// 1 where a file is installed by `__fd_install(files, fd, file)` (before 5.11).
#[unsafe(no_mangle)]
static INSTALL_HAS_FILES: Global<u32> = Global::new(0);

/// Is the table the first argument of the function that installs a file?
#[inline(always)]
pub(crate) fn install_has_files() -> bool {
    INSTALL_HAS_FILES.load() == 1
}

/// `void fd_install(unsigned fd, struct file *file)`, before the file is in its slot.
#[fentry]
pub(crate) fn install_entry(ctx: FEntryContext) -> i32 {
    if INSTALL_HAS_FILES.load() == 1 {
        installed(ctx.arg(0), ctx.arg(1), Typed(ctx.arg(2)));
    } else {
        installed(0, ctx.arg(0), Typed(ctx.arg(1)));
    }
    0
}

/// The twin of [`install_entry`].
#[kprobe]
pub(crate) fn install_probe(ctx: ProbeContext) -> u32 {
    let argument = |index| ctx.arg::<u64>(index).unwrap_or(0);
    if INSTALL_HAS_FILES.load() == 1 {
        installed(argument(0), argument(1) as u32, argument(2));
    } else {
        installed(0, argument(0) as u32, argument(1));
    }
    0
}

/// `files` is 0 where it is the current thread's.
#[inline(always)]
fn installed(files: Address, fd: u32, file: impl Pointer) {
    let files = if files == 0 {
        kernel::current_files()
    } else {
        files
    };
    if let Some(orders) = control::orders()
        && scope::tracks(files, orders.phase())
    {
        opened(RECORD_OPENED, files, fd, file, 0, orders);
    }
}

/// `int do_dup2(files, file, fd, flags)`, with the table's lock held.
#[fentry]
pub(crate) fn replace_entry(ctx: FEntryContext) -> i32 {
    replaces(ctx.arg(0), Typed(ctx.arg(1)), ctx.arg(2));
    0
}

/// The end of `do_dup2`, when the lock is free again.
#[fexit]
pub(crate) fn replace_exit(ctx: FExitContext) -> i32 {
    replaced(read::<i32>(ctx.as_ptr() as Address + 4 * 8));
    0
}

/// The twin of [`replace_entry`].
#[kprobe]
pub(crate) fn replace_probe(ctx: ProbeContext) -> u32 {
    let argument = |index| ctx.arg::<u64>(index).unwrap_or(0);
    replaces(argument(0), argument(1), argument(2) as u32);
    0
}

/// The twin of [`replace_exit`].
#[kretprobe]
pub(crate) fn replace_return(ctx: RetProbeContext) -> u32 {
    replaced(ctx.ret::<i32>());
    0
}

/// Calls of `do_dup2` of which only their end tells what they do, by thread.
#[map]
static UNDECIDED: LruHashMap<u64, [u64; 3]> = LruHashMap::with_max_entries(4_096, 0);

/// Foresees what the function does: with a file in the slot it replaces that one, onto a free number it
/// puts its own. Between the two, the number is taken by a call that installs its file at any moment,
/// without the lock: only the function's result tells whether it has come too early (EBUSY).
#[inline(always)]
fn replaces(files: Address, file: impl Pointer, fd: u32) {
    let Some(orders) = control::orders() else {
        return;
    };
    if !scope::tracks(files, orders.phase()) {
        return;
    }
    let table = Table::of(files);
    // The bit first: a file that is seen here stays, one that is not may be there a moment later.
    let is_taken = table.is_taken(fd);
    let old = table.file(fd);
    if old != 0 {
        opened(RECORD_REPLACED, files, fd, file, old, orders);
    } else if is_taken {
        let call = [files, file.address(), u64::from(fd)];
        if UNDECIDED
            .insert(bpf_get_current_pid_tgid(), call, 0)
            .is_err()
        {
            control::count(COUNTER_PENDING_FULL);
        }
    } else {
        opened(RECORD_OPENED, files, fd, file, 0, orders);
    }
}

#[inline(always)]
fn replaced(result: i32) {
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = UNDECIDED.get_ptr(thread) else {
        return;
    };
    // SAFETY: an entry of this thread's own.
    let [files, file, fd] = unsafe { *call };
    let _ = UNDECIDED.remove(thread);
    if result >= 0
        && let Some(orders) = control::orders()
    {
        opened(RECORD_REPLACED, files, fd as u32, file, ANY_FILE, orders);
    }
}

#[inline(always)]
fn opened(
    kind: u32,
    files: Address,
    fd: u32,
    file: impl Pointer,
    replaced: Address,
    orders: Orders,
) {
    stacks::tell(files, fd, file.address(), orders);
    let Some(mut entry) = ring::reserve::<OpenRecord>() else {
        return;
    };
    let actor = Actor::current();
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a whole reserved record; each member is written once.
    unsafe {
        (&raw mut (*record).kind).write(kind);
        (&raw mut (*record).fd).write(fd);
        (&raw mut (*record).time_ns).write(actor::now_ns());
        (&raw mut (*record).files).write(files);
        (&raw mut (*record).file).write(file.address());
        (&raw mut (*record).replaced).write(replaced);
        (&raw mut (*record).tgid).write(actor.tgid);
        (&raw mut (*record).tid).write(actor.tid);
        (&raw mut (*record).uid).write(actor.uid);
        (&raw mut (*record).call).write(actor.call);
        (&raw mut (*record).flags).write(actor.flags);
        identity::fill(record, file);
    }
    ring::submit(entry);
}

/// `struct file *file_close_fd_locked(files, fd)`, and `pick_file` before 6.8: the file counts that it
/// returns, since one may be installed at any moment until the function looks.
#[fexit]
pub(crate) fn pick_file_exit(ctx: FExitContext) -> i32 {
    picked(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn picked(files: Address, fd: u32, file: Address) {
    if !kernel::is_error_or_null(file) {
        closed(files, fd, file, 0);
    }
}

/// `int __close_fd_get_file(fd, struct file **file)`, on kernels where that empties the slot itself.
#[fexit]
pub(crate) fn close_get_file_exit(ctx: FExitContext) -> i32 {
    let arguments = ctx.as_ptr() as Address;
    let result: i32 = read(arguments + 16);
    if result == 0 {
        got_file(read::<u64>(arguments) as u32, read(arguments + 8));
    }
    0
}

#[inline(always)]
fn got_file(fd: u32, place: Address) {
    let files = kernel::current_files();
    let file: Address = read(place);
    if !kernel::is_error_or_null(file) {
        closed(files, fd, file, MAYBE_TOLD);
    }
}

/// The first two arguments of a thread's call to one of the functions above, for its kretprobe.
#[map]
static PENDING: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(4_096, 0);

/// The first half of the twin of [`pick_file_exit`].
#[kprobe]
pub(crate) fn pick_file_probe(ctx: ProbeContext) -> u32 {
    keep_arguments(&ctx);
    0
}

/// The first half of the twin of [`close_get_file_exit`].
#[kprobe]
pub(crate) fn close_get_file_probe(ctx: ProbeContext) -> u32 {
    keep_arguments(&ctx);
    0
}

#[inline(always)]
fn keep_arguments(ctx: &ProbeContext) {
    let arguments = [ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0)];
    let thread = bpf_get_current_pid_tgid();
    if PENDING.insert(thread, arguments, 0).is_err() {
        control::count(COUNTER_PENDING_FULL);
    }
}

/// The second half of the twin of [`pick_file_exit`].
#[kretprobe]
pub(crate) fn pick_file_return(ctx: RetProbeContext) -> u32 {
    if let Some([files, fd]) = pending() {
        picked(files, fd as u32, ctx.ret::<u64>());
    }
    0
}

/// The second half of the twin of [`close_get_file_exit`].
#[kretprobe]
pub(crate) fn close_get_file_return(ctx: RetProbeContext) -> u32 {
    if let Some([fd, place]) = pending()
        && ctx.ret::<i32>() == 0
    {
        got_file(fd as u32, place);
    }
    0
}

#[inline(always)]
fn pending() -> Option<[u64; 2]> {
    let thread = bpf_get_current_pid_tgid();
    let arguments = PENDING.get_ptr(thread)?;
    // SAFETY: an entry of this thread's own.
    let arguments = unsafe { *arguments };
    let _ = PENDING.remove(thread);
    Some(arguments)
}

#[inline(always)]
fn closed(files: Address, fd: u32, file: Address, flags: u32) {
    if !scope::tracks(files, control::phase()) {
        return;
    }
    let Some(mut entry) = ring::reserve::<CloseRecord>() else {
        return;
    };
    let actor = Actor::current();
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a whole reserved record; each member is written once.
    unsafe {
        (&raw mut (*record).kind).write(RECORD_CLOSED);
        (&raw mut (*record).fd).write(fd);
        (&raw mut (*record).time_ns).write(actor::now_ns());
        (&raw mut (*record).files).write(files);
        (&raw mut (*record).file).write(file);
        (&raw mut (*record).tgid).write(actor.tgid);
        (&raw mut (*record).tid).write(actor.tid);
        (&raw mut (*record).uid).write(actor.uid);
        (&raw mut (*record).call).write(actor.call);
        (&raw mut (*record).flags).write(actor.flags | flags);
        (&raw mut (*record).padding).write(0);
    }
    ring::submit(entry);
}
