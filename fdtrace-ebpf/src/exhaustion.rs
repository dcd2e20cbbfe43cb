//! The hooks that see a failed request for an fd: each an fexit program and its kretprobe twin, some of them a kprobe on
//! the instruction by which the function begins to fail.
//!
//! Sources: `alloc_fd`, `dup_fd`, `ksys_dup3` in fs/file.c, `alloc_empty_file` in `fs/file_table.c`.

use aya_ebpf::{
    EbpfContext, Global,
    helpers::bpf_get_current_pid_tgid,
    macros::{fexit, kprobe, kretprobe, map, raw_tracepoint},
    maps::LruHashMap,
    programs::{FExitContext, ProbeContext, RawTracePointContext, RetProbeContext},
};
use fdtrace_common::alarm::{
    CALL_COMPAT, CALL_IO_URING, HOOK_ALLOC_FD, HOOK_ALLOC_FILE, HOOK_DUP_FD, HOOK_DUP3,
    HOOK_FILE_SERVER, HOOK_OWN_LIMIT, HOOK_REPLACE, HOOK_RING_FILE, HOOK_SYS_EXIT,
    HOOK_UNIX_SOCKET,
};

use crate::{
    alarm::{Failure, raise},
    call,
    handover::hand_over,
    kernel::{self, Address, member, offset, read},
    repeats, selects, stacks, tables,
};

/// Errnos, as everywhere in Linux (include/uapi/asm-generic/errno-base.h).
const EBADF: i64 = 9;
const ENFILE: i64 = 23;
const EMFILE: i64 = 24;

/// 1 where `dup_fd` returns NULL and stores the errno (`dup_fd(files, max_fds, &error)`).
#[unsafe(no_mangle)]
static DUP_FD_HAS_ERRORP: Global<u32> = Global::new(0);

/// Does `dup_fd` return NULL where it fails, and store the errno through its last argument?
#[inline(always)]
pub(crate) fn dup_fd_has_errorp() -> bool {
    DUP_FD_HAS_ERRORP.load() == 1
}

/// 1: tables are followed, and copies of them are told.
#[unsafe(no_mangle)]
static TRACK: Global<u32> = Global::new(0);
/// 1: failures are reported. Where it is 0 only tables are followed, and nothing that raises alarms is set up.
#[unsafe(no_mangle)]
static ALARMS: Global<u32> = Global::new(0);
/// Numbers of dup2 and dup3.
#[unsafe(no_mangle)]
static NR_DUP2: Global<u32> = Global::new(u32::MAX);
/// See [`NR_DUP2`].
#[unsafe(no_mangle)]
static NR_DUP3: Global<u32> = Global::new(u32::MAX);
/// The same in the 32-bit table.
#[unsafe(no_mangle)]
static NR_COMPAT_DUP2: Global<u32> = Global::new(u32::MAX);
/// See [`NR_COMPAT_DUP2`].
#[unsafe(no_mangle)]
static NR_COMPAT_DUP3: Global<u32> = Global::new(u32::MAX);

/// `int alloc_fd(unsigned start, unsigned end, unsigned flags)`: the only place where fd numbers
/// come from.
#[fexit]
pub(crate) fn alloc_fd_exit(ctx: FExitContext) -> i32 {
    alloc_fd(ctx.arg(3), ctx.arg(1));
    0
}

/// `int __alloc_fd(struct files_struct *, unsigned start, unsigned end, unsigned flags)`: the same before 5.11.
/// A program of its own, since every number that is handed out pays for a question.
#[fexit]
pub(crate) fn old_alloc_fd_exit(ctx: FExitContext) -> i32 {
    alloc_fd(ctx.arg(4), ctx.arg(2));
    0
}

#[inline(always)]
fn alloc_fd(result: i32, end: u32) {
    if i64::from(result) != -EMFILE || repeats::count(Some(end)) {
        return;
    }
    raise_here(failure(HOOK_ALLOC_FD, EMFILE, Some(end)));
}

/// The twin of [`alloc_fd_exit`]. It is told of no limit, and takes the process's, which may change.
#[kretprobe]
pub(crate) fn alloc_fd_return(ctx: RetProbeContext) -> u32 {
    if i64::from(ctx.ret::<i32>()) == -EMFILE {
        alloc_fd_failed(&ctx);
    }
    0
}

/// The instruction in `alloc_fd` that loads EMFILE: no number is free below the limit. No success comes by here. The
/// table's lock is held, which keeps the CPU.
#[kprobe]
pub(crate) fn alloc_fd_branch(ctx: ProbeContext) -> u32 {
    alloc_fd_failed(&ctx);
    0
}

#[inline(always)]
fn alloc_fd_failed(ctx: &impl EbpfContext) {
    if !repeats::count(None) {
        hand_over(ctx, failure(HOOK_ALLOC_FD, EMFILE, None));
    }
}

/// Threads in whose call a table could not grow, which has been told.
#[map]
static NOT_GROWN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(64, 0);

/// The instruction in `expand_files` that loads EMFILE: a table must not grow (`fs.nr_open`), which `alloc_fd` hands on.
/// It goes with [`alloc_fd_branch`].
#[kprobe]
pub(crate) fn expand_branch(ctx: ProbeContext) -> u32 {
    not_grown(&ctx);
    0
}

/// The same behind a function that `expand_files` calls, `alloc_fdtable`: EMFILE where `fs.nr_open` is no multiple of 64,
/// and there is no room for the last numbers below it.
#[kprobe]
pub(crate) fn expand_behind(ctx: ProbeContext) -> u32 {
    // What has been returned is still in its register.
    if RetProbeContext::new(ctx.as_ptr()).ret::<i64>() == -EMFILE {
        not_grown(&ctx);
    }
    0
}

/// dup2 and dup3 come here as well, and say EBADF then ([`dup3_return`]); so does `replace_fd`
/// ([`replace_fd_return`]).
#[inline(always)]
fn not_grown(ctx: &ProbeContext) {
    let task = kernel::current_task();
    let code = call::current(task, kernel::entry_registers(task)).code;
    let is_dup = code == NR_DUP2.load()
        || code == NR_DUP3.load()
        || code == NR_COMPAT_DUP2.load()
        || code == NR_COMPAT_DUP3.load();
    if !is_dup {
        // Full or not: at worst a supervisor's failure is told twice.
        let _ = NOT_GROWN.insert(bpf_get_current_pid_tgid(), 1, 0);
        alloc_fd_failed(ctx);
    }
}

/// `struct files_struct *dup_fd(…)`: fork, unshare, exec and `close_range` copy a table.
#[fexit]
pub(crate) fn dup_fd_exit(ctx: FExitContext) -> i32 {
    // Read as memory, not by `ctx.arg`: verifiers of that age refuse an argument that points to
    // an int ("arg2 type INT is not a struct", 5.10).
    let arguments = ctx.as_ptr() as Address;
    let failed = if DUP_FD_HAS_ERRORP.load() == 1 {
        dup_fd(read(arguments + 3 * 8), read(arguments + 2 * 8))
    } else {
        dup_fd(read(arguments + 2 * 8), 0)
    };
    if failed {
        raise_here(failure(HOOK_DUP_FD, EMFILE, None));
    }
    0
}

/// Where a thread in `dup_fd` wants its errno, for kernels whose `dup_fd` has such an argument.
#[map]
static DUP_FD_ERRORP: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1_024, 0);

/// Remembers the third argument for [`dup_fd_return`], which asks for it where it is a place for an
/// errno.
#[kprobe]
pub(crate) fn dup_fd_entry(ctx: ProbeContext) -> u32 {
    let errorp: u64 = ctx.arg(2).unwrap_or(0);
    let _ = DUP_FD_ERRORP.insert(bpf_get_current_pid_tgid(), errorp, 0);
    0
}

/// The twin of [`dup_fd_exit`].
#[kretprobe]
pub(crate) fn dup_fd_return(ctx: RetProbeContext) -> u32 {
    let copy: Address = ctx.ret();
    let mut place = 0;
    if DUP_FD_HAS_ERRORP.load() == 1 {
        let thread = bpf_get_current_pid_tgid();
        if let Some(errorp) = DUP_FD_ERRORP.get_ptr(thread) {
            // SAFETY: an entry of this thread's own.
            place = unsafe { *errorp };
            let _ = DUP_FD_ERRORP.remove(thread);
        }
    }
    if dup_fd(copy, place) {
        hand_over(&ctx, failure(HOOK_DUP_FD, EMFILE, None));
    }
    0
}

/// Tells of a copy; else, did it fail for want of numbers, and is that to be reported? `errorp` is where the errno lies if there is no
/// copy; elsewhere the copy's pointer tells it.
#[inline(always)]
fn dup_fd(copy: Address, errorp: Address) -> bool {
    if !kernel::is_error_or_null(copy) {
        if TRACK.load() == 1 {
            tables::copied(copy);
        }
        return false;
    }
    if ALARMS.load() == 0 {
        return false;
    }
    let error = if copy == 0 {
        i64::from(read::<i32>(errorp))
    } else {
        copy.cast_signed()
    };
    error == -EMFILE
}

/// `struct file *alloc_empty_file(int flags, const struct cred *)`: fs.file-max.
#[fexit]
pub(crate) fn alloc_file_exit(ctx: FExitContext) -> i32 {
    if ctx.arg::<i64>(2) == -ENFILE {
        raise_here(failure(HOOK_ALLOC_FILE, ENFILE, None));
    }
    0
}

/// The instruction in `alloc_empty_file` that loads ENFILE. No success comes by here.
#[kprobe]
pub(crate) fn alloc_file_branch(ctx: ProbeContext) -> u32 {
    hand_over(&ctx, failure(HOOK_ALLOC_FILE, ENFILE, None));
    0
}

/// The twin of [`alloc_file_exit`].
#[kretprobe]
pub(crate) fn alloc_file_return(ctx: RetProbeContext) -> u32 {
    if ctx.ret::<i64>() == -ENFILE {
        hand_over(&ctx, failure(HOOK_ALLOC_FILE, ENFILE, None));
    }
    0
}

/// `int ksys_dup3(unsigned oldfd, unsigned newfd, int flags)`: a target out of reach is EBADF.
#[kretprobe]
pub(crate) fn dup3_return(ctx: RetProbeContext) -> u32 {
    if i64::from(ctx.ret::<i32>()) == -EBADF {
        let task = kernel::current_task();
        if target_out_of_reach(task, kernel::entry_registers(task)) {
            hand_over(&ctx, failure(HOOK_DUP3, EBADF, None));
        }
    }
    0
}

/// Is the EBADF of a dup2 or dup3 about its target? It is where the source is open, and the target
/// no number that only an error could have made.
#[inline(always)]
fn target_out_of_reach(task: Address, registers: Address) -> bool {
    let [source, target, _] = call::current(task, registers).arguments();
    let (source, target) = (source as u32, target as u32);
    let files: Address = member(task, &offset::TASK_FILES);
    let fdt: Address = member(files, &offset::FILES_FDT);
    if target > i32::MAX as u32 || source >= member::<u32>(fdt, &offset::FDT_MAX_FDS) {
        return false;
    }
    let pointers: Address = member(fdt, &offset::FDT_FD);
    read::<Address>(pointers + u64::from(source) * 8) != 0
}

/// `int receive_fd_replace(int new_fd, struct file *, unsigned flags)`, to which only seccomp comes, or
/// `int replace_fd(unsigned fd, struct file *, unsigned flags)`: EBADF at the soft limit, EMFILE at `fs.nr_open`.
#[kretprobe]
pub(crate) fn replace_fd_return(ctx: RetProbeContext) -> u32 {
    let result = i64::from(ctx.ret::<i32>());
    let thread = bpf_get_current_pid_tgid();
    if result == -EMFILE && NOT_GROWN.get_ptr(thread).is_some() {
        // Told by `not_grown`.
        let _ = NOT_GROWN.remove(thread);
    } else if result == -EBADF || result == -EMFILE {
        hand_over(&ctx, failure(HOOK_REPLACE, -result, None));
    }
    0
}

/// `struct sock *unix_create1(net, sock, kern, type)` in `net/unix/af_unix.c`. It comes before a number and a file
/// are asked for, or makes the far end of a connect: no failure is reported twice.
#[kretprobe]
pub(crate) fn unix_socket_return(ctx: RetProbeContext) -> u32 {
    if ctx.ret::<i64>() == -ENFILE {
        hand_over(&ctx, failure(HOOK_UNIX_SOCKET, ENFILE, None));
    }
    0
}

/// Threads whose failure [`ring_place_return`] has raised.
#[map]
static RING_FULL: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1_024, 0);

/// `int __io_fixed_fd_install(ring, file, slot)` in `io_uring/filetable.c` (6.0): finds a place in a ring's own
/// table. Files that are passed from ring to ring come to it alone (`io_msg_install_complete`, `io_uring/msg_ring.c`).
#[kretprobe]
pub(crate) fn ring_place_return(ctx: RetProbeContext) -> u32 {
    if i64::from(ctx.ret::<i32>()) == -ENFILE {
        let _ = RING_FULL.insert(bpf_get_current_pid_tgid(), 0, 0);
        hand_over(&ctx, failure(HOOK_RING_FILE, ENFILE, None));
    }
    0
}

/// `int io_fixed_fd_install(request, flags, file, slot)`, ibid.: puts a file that is open already into a ring's own
/// table. It gets the place from `__io_fixed_fd_install`, which compilers may have put into it: a failure that
/// [`ring_place_return`] has raised is no second one.
#[kretprobe]
pub(crate) fn ring_file_return(ctx: RetProbeContext) -> u32 {
    if i64::from(ctx.ret::<i32>()) == -ENFILE && RING_FULL.remove(bpf_get_current_pid_tgid()).is_err() {
        hand_over(&ctx, failure(HOOK_RING_FILE, ENFILE, None));
    }
    0
}

/// A failure; the errno is one of those above.
#[inline(always)]
fn failure(hook: u32, errno: i64, limit: Option<u32>) -> Failure {
    Failure {
        hook,
        errno: errno as u32,
        limit,
    }
}

/// Raises a failure that was seen inside the kernel, below the current thread's system call.
#[inline(always)]
pub(crate) fn raise_here(failure: Failure) {
    let task = kernel::current_task();
    raise(failure, kernel::entry_registers(task));
}

// Functions that fail with these errnos for a reason of their own; see `probe::plan` for which. They are called
// rarely enough for a kretprobe.
//
// The results are read as what they are, and not all 64 bits of an int, whose upper half is anything.

/// The end of a function with a limit of its own: an int, or a long that holds one.
#[kretprobe]
pub(crate) fn own_limit_return(ctx: RetProbeContext) -> u32 {
    false_lead(&ctx, HOOK_OWN_LIMIT, i64::from(ctx.ret::<i32>()));
    0
}

/// `struct fuse_file *fuse_file_open(mount, node, flags, isdir)`.
#[kretprobe]
pub(crate) fn fuse_open_return(ctx: RetProbeContext) -> u32 {
    false_lead(&ctx, HOOK_FILE_SERVER, ctx.ret::<i64>());
    0
}

/// `int fuse_atomic_open(dir, entry, file, flags, mode)`.
#[kretprobe]
pub(crate) fn fuse_create_return(ctx: RetProbeContext) -> u32 {
    false_lead(&ctx, HOOK_FILE_SERVER, i64::from(ctx.ret::<i32>()));
    0
}

// FUSE's and `get_anon_bdev` lie deep inside calls that also ask for numbers and files, and still no failure is
// told twice. open takes its number (`alloc_fd`) and its file (`alloc_empty_file`) before it comes to
// the file system: where one of them fails, FUSE is not asked. Of FUSE's two, `fuse_atomic_open` asks
// the server to look up and create the last component; only where that went well does the kernel go
// on to `fuse_file_open`. clone and unshare copy the table (`dup_fd`) before they mount anything. An
// error of `get_anon_bdev` ends the mount, with nothing asked for afterwards. None of the calls that
// `call::has_own_limit` knows opens a file of a file system's or mounts one.

#[inline(always)]
fn false_lead(ctx: &RetProbeContext, hook: u32, result: i64) {
    if result == -EMFILE || result == -ENFILE {
        hand_over(ctx, failure(hook, -result, None));
    }
}

/// `sys_exit(struct pt_regs *regs, long ret)`: every syscall's end, the census backend's alarm, and its way to stacks.
#[raw_tracepoint]
pub(crate) fn sys_exit(ctx: RawTracePointContext) -> u32 {
    let result: i64 = ctx.arg(1);
    let registers: Address = ctx.arg(0);
    if ALARMS.load() == 0 || result != -EMFILE && result != -ENFILE && result != -EBADF {
        stacks::returned(registers, result);
        selects::ended(registers);
        return 0;
    }
    if result == -EBADF {
        let task = kernel::current_task();
        let call = call::current(task, registers);
        if call.code & (CALL_COMPAT | CALL_IO_URING) != 0
            || (call.code != NR_DUP2.load() && call.code != NR_DUP3.load())
            || !target_out_of_reach(task, registers)
        {
            return 0;
        }
    }
    selects::failed();
    raise(failure(HOOK_SYS_EXIT, -result, None), registers);
    0
}
