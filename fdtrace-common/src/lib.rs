//! What the kernel programs and the user side share: wire records and constants, nothing else.
//!
//! * [`alarm`]: one failed call that asked for an fd, and the cells that count its repetitions.
//! * [`ask`]: what the user side asks of maps through a program.
//! * [`change`]: every change of a table, a record each.
//! * [`record`]: the kinds of records.
//! * [`census`]: one task's fd table as an iterator finds it.
//! * [`control`]: what the user side tells running programs, and the counters they keep.
//! * [`file`]: one open fd as the file iterator finds it.
//! * [`held`]: what a table holds when it has run out.
//! * [`select`]: which processes call select(2).
//! * [`self_test`]: how a failure made by fdtrace's self-test is recognised.
//! * [`kind`]: what kind of thing an fd leads to.
//! * [`python`]: the frames of a Python interpreter behind an fd that is opened.
//! * [`slot`]: when and by whom each file came into a table, in shared memory.
//! * [`stack`]: the user stack behind an fd that is opened.
//! * [`fields`]: every kernel struct member that a program reads, resolved from BTF before loading.
#![no_std]

pub mod alarm;
pub mod ask;
pub mod census;
pub mod change;
pub mod code;
pub mod control;
pub mod fields;
pub mod file;
pub mod held;
pub mod kind;
pub mod peer;
pub mod python;
pub mod record;
pub mod select;
pub mod self_test;
pub mod slot;
pub mod stack;

/// A number the kernel could not give: a count too long to take there, a field that is absent.
pub const UNKNOWN: u32 = u32::MAX;
