//! What a failure means. Pure: no kernel, no clock, no files.

pub mod call;
pub mod cause;
pub mod connections;
pub mod diagnosis;
pub mod fullest;
pub mod holders;
pub mod near_limit;
pub mod outstanding;
pub mod relieve;
pub mod remedy;
pub mod select;
pub mod verdict;
