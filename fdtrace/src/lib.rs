//! fdtrace: every live file descriptor of every process, and EMFILE the moment it happens.

pub mod probe;
