//! The census: every task's fd table as `iter/task` finds it.

/// One thread whose table is not that of its group leader, or the leader itself.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TaskRecord {
    /// Address of the `files_struct`.
    pub files: u64,
    /// Soft `RLIMIT_NOFILE` of the process.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE` of the process.
    pub hard: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Numbers taken, [`crate::UNKNOWN`] where the table has more than
    /// [`crate::alarm::USED_COUNTED`] slots.
    pub used: u32,
    /// Size of the table.
    pub max_fds: u32,
    /// The thread's name.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<TaskRecord>() == 56);
