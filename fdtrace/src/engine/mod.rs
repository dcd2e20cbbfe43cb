//! What is known of all tables, behind one trait.

pub mod storms;
