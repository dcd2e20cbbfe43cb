//! The kernel's side of fdtrace: what this kernel offers, and where its structures keep what is read.

pub mod btf;
