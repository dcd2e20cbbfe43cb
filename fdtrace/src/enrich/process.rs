//! What /proc says of a process that is still there.

use std::os::unix::fs::MetadataExt;

use procfs::process::{Process, StatFlags};

/// Its effective user.
#[must_use]
pub fn user_of(pid: u32) -> Option<u32> {
    let process = std::fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(process.uid())
}

/// Is it a thread of the kernel's own, which has no user space and opens nothing? Unknown is no.
#[must_use]
pub fn is_kernel_thread(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok();
    let stat = pid.and_then(|pid| Process::new(pid).ok()?.stat().ok());
    stat.is_some_and(|stat| {
        StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD)
    })
}
