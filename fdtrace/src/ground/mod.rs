//! Plain data that everything else may name: what an fd leads to, states of connections, open files as the kernel shows
//! them, and small helpers. Knows nothing of engines, reports or commands.

pub mod file;
pub mod kind;
pub mod listing;
pub mod newest;
pub mod socket_end;
pub mod tcp_state;
