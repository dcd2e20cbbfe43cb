//! Rows of the kernel's own tables, each joined with its slot.

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_seq_write},
    macros::map,
    maps::Array,
};
use fdtrace_common::{
    record::{RECORD_MARK, RECORD_SEEN},
    slot::{JoinedRecord, STAMP_NONE, STAMP_OTHER, STAMP_TIME_SHIFT},
};

use super::{directory::Place, slot};
use crate::{
    files::TaskFileContext,
    identity,
    kernel::{Address, Pointer as _, Typed, offset},
    peer,
};

/// A record, too large for a program's stack.
#[map]
static JOINED_ROOM: Array<JoinedRecord> = Array::with_max_entries(1, 0);

/// All open fds, since when, and by whom.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn slots_joined(context: *mut TaskFileContext) -> i32 {
    // SAFETY: the kernel passes a whole context; `task` and `file` are NULL after the last one.
    let (meta, task, fd, file) = unsafe {
        (
            (*context).meta,
            (*context).task,
            (*context).fd,
            (*context).file,
        )
    };
    let Some(record) = JOINED_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    if task.is_null() || file.is_null() {
        // SAFETY: as below. What else is in the row is of the one before.
        unsafe {
            let seen = &raw mut (*record).seen;
            (&raw mut (*seen).kind).write(RECORD_MARK);
            (&raw mut (*seen).time_ns).write(bpf_ktime_get_boot_ns());
            (&raw mut (*record).stamp).write(bpf_jiffies64() << STAMP_TIME_SHIFT);
            bpf_seq_write(
                (*meta).seq,
                record.cast_const().cast(),
                size_of::<JoinedRecord>() as u32,
            );
        }
        return 0;
    }
    let (task, file) = (Typed(task.cast()), Typed(file.cast()));
    let files: Address = task.member(&offset::TASK_FILES);
    let stamp = stamp(files, fd, file.address());
    // SAFETY: the map's one value, which nobody else uses while this iterator runs; each member is
    // written. `meta` and its `seq` are trusted pointers of the iterator.
    unsafe {
        let seen = &raw mut (*record).seen;
        (&raw mut (*seen).kind).write(RECORD_SEEN);
        (&raw mut (*seen).fd).write(fd);
        (&raw mut (*seen).time_ns).write(0);
        (&raw mut (*seen).files).write(files);
        (&raw mut (*seen).file).write(file.address());
        (&raw mut (*seen).tgid).write(task.member(&offset::TASK_TGID));
        (&raw mut (*seen).tid).write(task.member(&offset::TASK_PID));
        (&raw mut (*seen).uid).write(0);
        (&raw mut (*seen).call).write(0);
        (&raw mut (*seen).flags).write(0);
        identity::fill(seen, file);
        (&raw mut (*seen).replaced).write(peer::of(file, seen));
        (&raw mut (*record).stamp).write(stamp);
        bpf_seq_write(
            (*meta).seq,
            record.cast_const().cast(),
            size_of::<JoinedRecord>() as u32,
        );
    }
    0
}

/// What the slot tells of this file.
#[inline(always)]
fn stamp(files: Address, fd: u32, file: Address) -> u64 {
    let place = Place::of(files, fd);
    let Some(chunk) = place.find_near().or_else(|| place.find_far()) else {
        return STAMP_NONE;
    };
    let slot = slot(chunk, fd);
    // SAFETY: a chunk of the map. The table may end meanwhile, and a file come: both are looked at again behind the
    // stamp.
    unsafe {
        let stamp = (&raw const (*slot).stamp).read_volatile();
        let now = (&raw const (*slot).file).read_volatile();
        if now == file && (&raw const (*chunk).files).read_volatile() == files {
            stamp
        } else if now == 0 {
            STAMP_NONE
        } else {
            STAMP_OTHER
        }
    }
}
