//! Slots: each file that comes into a table leaves when and by whom, in memory that user space maps.
//!
//! What is open is the kernel's own table; it lacks since when, and who. The hooks here write just that, with the
//! file's address, and joining row and slot ([`joined`]) believes a slot only where its file is the row's. So nothing
//! here has to be complete for a table to be right: whatever a hook misses makes an age unknown.
//!
//! * A file comes: [`slots_install`] and [`slots_replace`].
//! * It leaves: [`slots_close`]. Where it leaves some other way (exec, `close_range` in 5.9 and 5.10, the end of the
//!   table), the slot says so no more once another file comes, and the kernel's row is not there meanwhile.
//! * Tables are copied and end: [`tables`].
//!
//! Sources: `fd_install`, `do_dup2`, `file_close_fd_locked`, `pick_file` and `__close_fd_get_file` in fs/file.c, 5.10
//! to 7.2. No hook waits, reads a clock that has to be asked, or takes a record.

mod atomic;
mod chunk;
mod directory;
mod joined;
mod regions;
mod tables;

use aya_ebpf::{
    helpers::generated::bpf_jiffies64,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use fdtrace_common::slot::{CHUNK_SLOTS, STAMP_TIME_SHIFT, Slot};

use self::directory::{Contents, Place};
use crate::{
    changes::install_has_files,
    kernel::{self, Address, Table},
};

/// `void fd_install(unsigned fd, struct file *file)`, before the file is in its slot.
#[fentry]
pub(crate) fn slots_install(ctx: FEntryContext) -> i32 {
    if install_has_files() {
        put(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    } else {
        put(kernel::current_files(), ctx.arg(0), ctx.arg(1));
    }
    0
}

/// The kprobe counterpart of [`slots_install`].
#[kprobe]
pub(crate) fn slots_install_probe(ctx: ProbeContext) -> u32 {
    let argument = |index| ctx.arg::<u64>(index).unwrap_or(0);
    if install_has_files() {
        put(argument(0), argument(1) as u32, argument(2));
    } else {
        put(kernel::current_files(), argument(0) as u32, argument(1));
    }
    0
}

/// `int do_dup2(files, file, fd, flags)`, with the table's lock held.
#[fentry]
pub(crate) fn slots_replace(ctx: FEntryContext) -> i32 {
    replace(ctx.arg(0), ctx.arg(2), ctx.arg(1));
    0
}

/// The kprobe counterpart of [`slots_replace`].
#[kprobe]
pub(crate) fn slots_replace_probe(ctx: ProbeContext) -> u32 {
    let argument = |index| ctx.arg::<u64>(index).unwrap_or(0);
    replace(argument(0), argument(2) as u32, argument(1));
    0
}

/// `struct file *file_close_fd_locked(files, fd)`, and `pick_file` before 6.8: at their beginning, before the number
/// can be given out again.
#[fentry]
pub(crate) fn slots_close(ctx: FEntryContext) -> i32 {
    clear(ctx.arg(0), ctx.arg(1));
    0
}

/// The kprobe counterpart of [`slots_close`].
#[kprobe]
pub(crate) fn slots_close_probe(ctx: ProbeContext) -> u32 {
    clear(ctx.arg(0).unwrap_or(0), ctx.arg::<u64>(1).unwrap_or(0) as u32);
    0
}

/// `int __close_fd_get_file(fd, struct file **file)`, which empties the slot itself before 5.18.
#[fentry]
pub(crate) fn slots_close_current(ctx: FEntryContext) -> i32 {
    clear(kernel::current_files(), ctx.arg(0));
    0
}

/// The kprobe counterpart of [`slots_close_current`].
#[kprobe]
pub(crate) fn slots_close_current_probe(ctx: ProbeContext) -> u32 {
    clear(
        kernel::current_files(),
        ctx.arg::<u64>(0).unwrap_or(0) as u32,
    );
    0
}

/// The function fails (EBUSY) where the number is taken and has no file: it belongs to a call that is about to install
/// one, without the lock. Where that happens between here and the function's own look, the file that replaces it is not
/// counted, and its age is unknown.
#[inline(always)]
fn replace(files: Address, fd: u32, file: Address) {
    let table = Table::of(files);
    if table.file(fd) != 0 || !table.is_taken(fd) {
        put(files, fd, file);
    }
}

/// A file comes into a slot, put there by the current thread.
#[inline(always)]
fn put(files: Address, fd: u32, file: Address) {
    let place = Place::of(files, fd);
    let Some(chunk) = place.find_near().or_else(|| place.claim(Contents::Empty)) else {
        return;
    };
    // SAFETY: no arguments.
    let time = unsafe { bpf_jiffies64() };
    let stamp = time << STAMP_TIME_SHIFT | u64::from(kernel::current_tid());
    let slot = slot(chunk, fd);
    // SAFETY: a chunk of the map; what races for the same slot is decided by the kernel's row.
    unsafe {
        (&raw mut (*slot).stamp).write_volatile(stamp);
        (&raw mut (*slot).file).write_volatile(file);
        atomic::add(&raw mut (*chunk).opened, 1);
    }
}

/// The file in a slot leaves it.
#[inline(always)]
fn clear(files: Address, fd: u32) {
    let place = Place::of(files, fd);
    if let Some(chunk) = place.find_near().or_else(|| place.find_far()) {
        let slot = slot(chunk, fd);
        // SAFETY: as above.
        unsafe { (&raw mut (*slot).file).write_volatile(0) };
    }
}

/// A slot of a chunk that is the fd's.
#[inline(always)]
fn slot(chunk: *mut fdtrace_common::slot::Chunk, fd: u32) -> *mut Slot {
    let index = fd as usize & (CHUNK_SLOTS - 1);
    // SAFETY: there are so many.
    unsafe { (&raw mut (*chunk).slots).cast::<Slot>().add(index) }
}
