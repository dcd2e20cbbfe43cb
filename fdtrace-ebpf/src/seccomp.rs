//! Whether the current thread is stopped in a system call, and its seccomp supervisor is putting a file into its
//! table (`SECCOMP_IOCTL_NOTIF_ADDFD`).
//!
//! Source: kernel/seccomp.c, 5.9 to 7.3. `seccomp_do_user_notification` runs in the stopped thread. It carries out
//! what the supervisor asks for (`seccomp_handle_addfd`) with the filter's `notify_lock` held. No other code that
//! asks for an fd holds the lock of a filter of its own thread.

use fdtrace_common::alarm::{ALARM_BY_SUPERVISOR, AlarmRecord};

use crate::kernel::{Address, member, offset};

/// Filters of a thread that are looked at, the newest first. Programs have one or two.
const FILTERS: u32 = 16;

/// Flags in the owner's word of a mutex (`MUTEX_FLAGS` in kernel/locking/mutex.h; an `rt_mutex` has fewer).
const MUTEX_FLAGS: u64 = 7;

/// Writes a record's flags.
///
/// The result goes straight into memory: the verifier would walk the rest of the program twice for a value that it
/// knows to be 0 or 1. For the same reason the walk does not end early: reading near NULL gives 0, which is no
/// thread.
///
/// # Safety
///
/// `record` must be a whole record.
#[inline(always)]
pub(crate) unsafe fn flags(record: *mut AlarmRecord, task: Address) {
    // SAFETY: the caller's promise.
    let flags = unsafe { &raw mut (*record).flags };
    // SAFETY: as above.
    unsafe { flags.write_volatile(0) };
    let mut filter: Address = member(task, &offset::TASK_SECCOMP_FILTER);
    for _ in 0..FILTERS {
        let owner: u64 = member(filter, &offset::FILTER_LOCK_OWNER);
        if owner & !MUTEX_FLAGS == task {
            // SAFETY: as above.
            unsafe { flags.write_volatile(ALARM_BY_SUPERVISOR) };
        }
        filter = member(filter, &offset::FILTER_PREVIOUS);
    }
}
