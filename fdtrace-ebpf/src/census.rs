//! The census: every fd table on the host, by the kernel's own task iterator.

use aya_ebpf::helpers::generated::bpf_seq_write;
use fdtrace_common::{census::TaskRecord, change::ThreadRecord, record::RECORD_BOUND};

use crate::{
    kernel::{self, Address, member, offset},
    selects,
};

/// `struct bpf_iter__task`: what an `iter/task` program is given (`kernel/bpf/task_iter.c`).
#[repr(C)]
pub(crate) struct TaskContext {
    meta: *const IteratorMeta,
    task: *const core::ffi::c_void,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
pub(crate) struct IteratorMeta {
    pub(crate) seq: *mut aya_ebpf::bindings::seq_file,
    /// Another one each time that an iterator is started.
    pub(crate) session_id: u64,
}

/// Writes a [`ThreadRecord`] for each thread that has a table.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub(crate) extern "C" fn census_threads(context: *mut TaskContext) -> i32 {
    // SAFETY: the kernel passes a whole context; `task` is NULL after the last one.
    let (meta, task) = unsafe { ((*context).meta, (*context).task as Address) };
    if task == 0 {
        return 0;
    }
    let leader: Address = member(task, &offset::TASK_GROUP_LEADER);
    let record = ThreadRecord {
        kind: RECORD_BOUND,
        flags: 0,
        time_ns: 0,
        files: member(task, &offset::TASK_FILES),
        started_ns: member(leader, &offset::TASK_START),
        tgid: member(task, &offset::TASK_TGID),
        tid: member(task, &offset::TASK_PID),
        creator: 0,
        uid: 0,
        comm: member(task, &offset::TASK_COMM),
    };
    if record.files == 0 {
        return 0;
    }
    // SAFETY: `meta` and its `seq` are trusted pointers of the iterator; the record is whole.
    unsafe {
        bpf_seq_write(
            (*meta).seq,
            (&raw const record).cast(),
            size_of::<ThreadRecord>() as u32,
        )
    };
    0
}

/// Writes a [`TaskRecord`] for each group leader, and for each thread with a table of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub(crate) extern "C" fn census_task(context: *mut TaskContext) -> i32 {
    census::<false>(context)
}

/// The same, and notes which threads are in select(2): for the backend that has no hook to see them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub(crate) extern "C" fn census_task_calls(context: *mut TaskContext) -> i32 {
    census::<true>(context)
}

#[inline(always)]
fn census<const CALLS: bool>(context: *mut TaskContext) -> i32 {
    // SAFETY: the kernel passes a whole context; `task` is NULL after the last one.
    let (meta, task) = unsafe { ((*context).meta, (*context).task as Address) };
    if task == 0 {
        return 0;
    }
    if CALLS {
        // SAFETY: as above, and there is a task.
        let registers = kernel::registers_of(unsafe { (*context).task }.cast());
        selects::look(task, registers);
    }
    let files: Address = member(task, &offset::TASK_FILES);
    if files == 0 {
        return 0;
    }
    let leader: Address = member(task, &offset::TASK_GROUP_LEADER);
    if leader != task && member::<Address>(leader, &offset::TASK_FILES) == files {
        return 0;
    }
    let signal: Address = member(task, &offset::TASK_SIGNAL);
    let table = kernel::Table::of(files);
    let record = TaskRecord {
        files,
        soft: member(signal, &offset::SIGNAL_NOFILE_SOFT),
        hard: member(signal, &offset::SIGNAL_NOFILE_HARD),
        tgid: member(task, &offset::TASK_TGID),
        tid: member(task, &offset::TASK_PID),
        used: table.used(),
        max_fds: table.max_fds(),
        comm: member(task, &offset::TASK_COMM),
    };
    // SAFETY: `meta` and its `seq` are trusted pointers of the iterator; the record is whole.
    unsafe {
        bpf_seq_write(
            (*meta).seq,
            (&raw const record).cast(),
            size_of::<TaskRecord>() as u32,
        )
    };
    0
}
