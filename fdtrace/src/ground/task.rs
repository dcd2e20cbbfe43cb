//! A task and its table, as the kernel counts them.

use serde::{Deserialize, Serialize};

/// One task of the census.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Address of the table.
    pub files: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// Numbers taken, where the kernel could count them.
    pub used: Option<u32>,
    /// The thread's name.
    pub comm: Vec<u8>,
}
