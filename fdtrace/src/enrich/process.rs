//! What /proc says of a process that is still there.

use std::os::unix::fs::MetadataExt;

/// Its effective user.
#[must_use]
pub fn user_of(pid: u32) -> Option<u32> {
    let process = std::fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(process.uid())
}
