//! Who has put a file into a slot, where a stack of it was taken.

/// Which of the stacks that were taken, in the order in which they came.
pub type Sequence = u64;

/// A file in a slot: table, number, file.
pub type Slot = (u64, u32, u64);
