//! Plain data that everything else may name: what an fd leads to, states of connections, open files and tasks as the kernel
//! shows them, names of system calls, where a cgroup's path says that a process belongs, the host's limits, and small helpers. Knows nothing of engines, reports or commands.

pub mod call;
pub mod file;
pub mod host;
pub mod kind;
pub mod listing;
pub mod newest;
pub mod place;
pub mod socket_end;
pub mod task;
pub mod tcp_state;
pub mod unix_peer;
