//! Snapshots as text and JSON.

pub mod json;
pub mod text;
