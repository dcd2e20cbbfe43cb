//! Tables that are copied, and tables that end.
//!
//! The allocator hands a `files_struct` out again at once, often to the next fork. That no slot of an earlier table at
//! the same address is believed has two reasons, of which one suffices: a table that ends gives its chunks back, and one
//! that is made begins with what was copied and nothing else. The first misses tables of which the last two users leave
//! at the same moment; the second one forks whose kretprobe has run out of instances.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use fdtrace_common::slot::{CHUNK_SLOTS, Chunk, STAMP_INHERITED, Slot};

use super::{
    chunk::EachSlot,
    directory::{Contents, Place},
};
use crate::{
    HAS_LOOP,
    kernel::{self, Address, Table, member, offset, read},
    repeat::{Turn, repeat},
};

/// Chunks of a table that the programs go through; with `bpf_loop`, as often as that turns (`BPF_MAX_LOOPS`).
const CHUNKS: u32 = if HAS_LOOP {
    1 << 23
} else {
    4_096
};

/// The end of `struct files_struct *dup_fd(struct files_struct *, …)`: the copy is nobody's yet.
#[fexit]
pub(crate) fn slots_copy(ctx: FExitContext) -> i32 {
    // Read as memory: of kernels whose function has another argument for the errno, see `exhaustion::dup_fd_exit`.
    let arguments = ctx.as_ptr() as Address;
    let copy = if crate::exhaustion::dup_fd_has_errorp() {
        read(arguments + 3 * 8)
    } else {
        read(arguments + 2 * 8)
    };
    copied(copy);
    0
}

/// The kprobe counterpart of [`slots_copy`].
#[kretprobe]
pub(crate) fn slots_copy_return(ctx: RetProbeContext) -> u32 {
    copied(ctx.ret());
    0
}

/// Only the current thread's table is ever copied (`copy_files` and `unshare_fd` in kernel/fork.c, `__close_range` and
/// `unshare_files`).
#[inline(always)]
fn copied(copy: Address) {
    if kernel::is_error_or_null(copy) {
        return;
    }
    let task = kernel::current_task();
    let from: Address = member(task, &offset::TASK_FILES);
    let chunks = Table::of(copy).max_fds() / CHUNK_SLOTS as u32;
    // SAFETY: no arguments.
    let made_ns = unsafe { bpf_ktime_get_boot_ns() };
    // What an earlier table has left here is no part of it.
    Place::of_number(copy, 0).free();
    if let Some(first) = Place::of_number(copy, 0).claim(Contents::Empty) {
        // SAFETY: a chunk of the map.
        unsafe { (&raw mut (*first).made_ns).write_volatile(made_ns) };
    }
    repeat::<CHUNKS, _>(chunks, &mut Copy { from, copy });
}

/// Copies a table's slots.
struct Copy {
    from: Address,
    copy: Address,
}

impl Turn for Copy {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        slots_copy_chunk(self.from, self.copy, index as u32);
    }
}

/// One chunk of a copy.
///
/// Verifiers look at a function that is global once, and not at each of its calls: in the loops that they walk turn by
/// turn, it is one instruction. They let it be given numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn slots_copy_chunk(from: Address, copy: Address, number: u32) -> u32 {
    let from = Place::of_number(from, number);
    let to = Place::of_number(copy, number);
    let old = from.find_near().or_else(|| from.find_far());
    let Some(old) = old else {
        // Nothing is known of what is copied here. The first chunk was made anew, and stays.
        if number != 0 {
            to.free();
        }
        return 0;
    };
    if let Some(new) = to.claim(Contents::Anything) {
        Inherit {
            from: old,
            to: new,
        }
        .all();
    }
    0
}

/// Each file with its time and its thread, as one that came with the table.
struct Inherit {
    from: *const Chunk,
    to: *mut Chunk,
}

impl EachSlot for Inherit {
    #[inline(always)]
    fn slot(&mut self, index: usize) {
        // SAFETY: chunks of the map, which have so many.
        unsafe {
            let from = (&raw const (*self.from).slots).cast::<Slot>().add(index);
            let to = (&raw mut (*self.to).slots).cast::<Slot>().add(index);
            let stamp = (&raw const (*from).stamp).read_volatile() | STAMP_INHERITED;
            let file = (&raw const (*from).file).read_volatile();
            (&raw mut (*to).stamp).write_volatile(stamp);
            (&raw mut (*to).file).write_volatile(file);
        }
    }
}

/// `void exit_files(struct task_struct *)`: a thread gives its table up, or a fork that fails takes one back.
#[fentry]
pub(crate) fn slots_end(ctx: FEntryContext) -> i32 {
    ends(read(ctx.as_ptr() as Address));
    0
}

/// The kprobe counterpart of [`slots_end`].
#[kprobe]
pub(crate) fn slots_end_probe(ctx: ProbeContext) -> u32 {
    ends(ctx.arg(0).unwrap_or(0));
    0
}

#[inline(always)]
fn ends(task: Address) {
    let files: Address = member(task, &offset::TASK_FILES);
    if files == 0 || member::<u32>(files, &offset::FILES_COUNT) != 1 {
        return;
    }
    let chunks = Table::of(files).max_fds() / CHUNK_SLOTS as u32;
    repeat::<CHUNKS, _>(chunks, &mut End { files });
}

/// Gives a table's chunks back.
struct End {
    files: Address,
}

impl Turn for End {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        slots_free_chunk(self.files, index as u32);
    }
}

/// One chunk of a table that ends; global as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn slots_free_chunk(files: Address, number: u32) -> u32 {
    Place::of_number(files, number).free();
    0
}
