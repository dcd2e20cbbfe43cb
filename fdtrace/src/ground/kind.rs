//! What kind of thing an fd leads to: told by what both sides share.

pub(crate) use fdtrace_common::kind::{AF_INET, AF_INET6, AF_UNIX};
pub use fdtrace_common::kind::{Inode, Kind, Prefix};
