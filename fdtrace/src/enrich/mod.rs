//! What the kernel's records leave open, and what is looked up beside the reading of records: never in
//! the loop that drains the ring.

pub mod holders;
pub mod lineage;
pub mod lookup;
pub mod mounts;
pub mod names;
pub mod path;
pub mod process;
pub mod regular;
pub mod select;
pub mod shared;
pub mod sockets;
pub mod stacks;
