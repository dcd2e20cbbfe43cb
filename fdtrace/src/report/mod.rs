//! Facts as text or JSON: one file a format, and what both need.

pub mod audit;
mod block;
mod connections;
mod diagnosis;
pub mod event;
pub mod exec;
pub mod fact;
pub mod failing;
mod folders;
pub mod json;
pub mod listing;
pub mod openers;
pub mod outstanding;
pub mod page;
mod place;
pub mod relieve;
pub mod sanitize;
pub mod say;
pub mod stack;
pub mod text;
pub mod words;
pub mod writer;
pub mod zone;
