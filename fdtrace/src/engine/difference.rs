//! What an engine and the kernel disagree about.

use crate::ground::kind::Kind;

/// A difference that is there each time somebody looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// What is in a slot.
    Slot {
        /// The table.
        files: u64,
        /// The number.
        fd: u32,
        /// As it was followed.
        followed: Option<Followed>,
        /// As it is: the address of the file.
        kernel: Option<u64>,
    },
    /// The table of a thread.
    Thread {
        /// The thread.
        tid: u32,
        /// As it was followed.
        followed: Option<u64>,
        /// As it is.
        kernel: Option<u64>,
    },
}

/// A file as it was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// What it is.
    pub kind: Kind,
    /// Its name. Untrusted text.
    pub name: Vec<u8>,
    /// Its address.
    pub file: u64,
}
