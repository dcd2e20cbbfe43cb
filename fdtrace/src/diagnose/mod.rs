//! What a failure means. Pure: no kernel, no clock, no files.

pub mod cause;
pub mod connections;
pub mod diagnosis;
pub mod ends;
pub mod fullest;
pub mod holders;
pub mod near_limit;
pub mod origin;
pub mod outstanding;
pub mod programs;
pub mod relieve;
pub mod remedy;
pub mod select;
pub mod shared;
pub mod starter;
pub mod verdict;
