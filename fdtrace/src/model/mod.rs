//! What fdtrace knows, built from records alone. Pure: no aya, no files, no clock of its own.

pub mod file;
pub mod fullest;
pub mod history;
pub mod kind;
pub mod listing;
pub mod names;
pub mod storms;
pub mod tables;
