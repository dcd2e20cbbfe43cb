//! Finding out what this kernel offers, and attaching to it.
//!
//! * [`btf`]: where struct members are and which functions exist.
//! * [`globals`]: the constants that programs are loaded with.
//! * [`maps`], [`shared`], [`misses`]: what running programs share, and what they did not see. `ask`: a program through
//!   which maps are read.
//! * [`plan`]: which hooks a backend has, as data.
//! * [`load`]: the object in the kernel, nothing attached.
//! * `branch`: the instruction by which a function begins to fail.
//! * `preemption`: whether hooks on trampolines can miss calls.
//! * `opening_calls`: which calls open fds, for the backend without hooks.
//! * `own_fds`: how many files fdtrace itself will have open.
//! * `heap`: what starting took, given back.
//! * `hooks`, `refusal`: attaching a backend's programs, and what it means where the kernel refuses.
//! * [`backend`], [`attach`]: the ways to watch, and choosing one by trying.
//! * `self_test`: proof that what is to be seen is seen, in fdtrace's own process.
//! * [`scope`]: which processes are watched; [`cgroups`]: those of cgroups, which come and go.
//! * [`census`]: every table on the host at this moment.
//! * [`files`]: every open fd at this moment.
//! * [`targets`]: what programs are attached to.
//! * [`slots`]: when and by whom each fd was opened, in memory shared with the kernel and joined with its tables.
//! * [`tables`]: every slot of every table, for the model. `rows`: how an iterator's rows are read.
//! * `words`: memory that is shared, touched in one place.
//! * [`host`]: the limits of the host.
//! * [`proc_mount`]: whether /proc shows what has to be seen.
//! * [`selects`]: which processes call select(2).
//! * [`runs`]: what the programs cost, where the kernel counts it.
//! * [`requirements`]: what must be there before any of this can work.

mod ask;
pub mod attach;
pub mod backend;
mod branch;
pub mod btf;
pub mod census;
pub mod cgroup;
pub mod cgroups;
pub mod files;
pub mod globals;
mod heap;
mod hooks;
pub mod host;
mod links;
pub mod load;
pub mod maps;
pub mod misses;
mod opening_calls;
mod own_fds;
pub mod plan;
mod preemption;
pub mod proc_mount;
mod refusal;
pub mod requirements;
mod rows;
pub mod runs;
pub mod scope;
pub mod selects;
mod self_test;
pub mod shared;
pub mod slots;
pub mod tables;
pub mod targets;
mod words;
