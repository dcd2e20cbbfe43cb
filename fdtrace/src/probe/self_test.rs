//! Proof, before anything is promised: what a backend is to see happens in fdtrace's own process.

pub(super) mod alarm;
pub(super) mod select;
pub(super) mod slots;
pub(super) mod tables;
