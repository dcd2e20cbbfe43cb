//! What the user side asks of maps through a program: the arguments of its run, and what it returns.

/// What: reads an entry.
pub const ASK_READ: u64 = 0;
/// Adds one.
pub const ASK_ADD: u64 = 1;
/// Removes one.
pub const ASK_REMOVE: u64 = 2;

/// Of what map: failures of a kind on a CPU. The key is a [`crate::alarm::StormKey`], by words.
pub const ASK_STORM: u64 = 0;
/// The tables that are watched. The key is an address.
pub const ASK_WATCHED: u64 = 1;
/// The tables in which stacks are taken. The key is an address.
pub const ASK_STACKS: u64 = 2;

/// It was done. Without it there was no such entry, or no room for one.
pub const DONE: u64 = 1;
