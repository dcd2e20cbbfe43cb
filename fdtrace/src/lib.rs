//! fdtrace: every live file descriptor of every process, and EMFILE the moment it happens.
//!
//! Data goes one way:
//!
//! ```text
//! kernel hook → ring → stream::decode → model.apply(record) → engine → diagnose → fact → report
//! ```
//!
//! * [`probe`] finds out what this kernel offers, loads the programs and attaches them.
//! * [`stream`] reads their records.
//! * [`engine`] is what is known of all tables, as whoever reads them sees it; [`ground`] has the plain data in it.
//! * [`model`] is the engine that there is: it replays records. [`tracker`] keeps it alive. [`joined`] is to be the next
//!   one: it reads the kernel's own tables, joined with what hooks have left in slots.
//! * [`model`] and [`diagnose`] are pure: facts in, facts out.
//! * [`timers`] has the long times of a running stream.
//! * [`report`] writes facts as text or JSON.
//! * [`child`] starts programs for them.
//! * [`commands`] puts these together, one file a subcommand.

pub mod child;
pub mod cli;
pub mod commands;
pub mod diagnose;
pub mod engine;
pub mod enrich;
pub mod ground;
pub mod joined;
pub mod model;
pub mod probe;
pub mod report;
pub mod stream;
pub mod timers;
pub mod tracker;
