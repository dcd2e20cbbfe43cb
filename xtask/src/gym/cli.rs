//! The command line.

use std::ffi::OsString;

use clap::Parser;

use crate::scenarios;

/// Runs out of file descriptors, or changes its table, in a named way, checks itself, and tells what it did as one
/// line of JSON.
///
/// Status 0: all went as the scenario says; 3: this kernel or this user cannot have it, with the
/// reason in "skipped"; 1: anything else, with the reason on standard error.
#[derive(Clone, Debug, Parser)]
#[command(name = "gym", after_help = scenarios::help())]
pub(crate) struct Options {
    /// What to do; `list` prints the names of all scenarios
    #[arg(value_parser = scenarios::names())]
    pub(crate) scenario: String,

    /// Soft limit on descriptors; the hard one stays [default: the scenario's, mostly 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(crate) limit: Option<u64>,

    /// Name of the process: any bytes, of which the kernel keeps 15
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Option<OsString>,

    /// Run in a thread of this name; the process keeps its own
    #[arg(long, value_name = "NAME")]
    pub(crate) thread: Option<OsString>,

    /// Print `ready PID` and wait for a line before the call that fails
    #[arg(long)]
    pub(crate) wait: bool,

    /// Stay for so long once the line of JSON is out
    #[arg(long, value_name = "SECONDS", conflicts_with = "hold_until_eof")]
    pub(crate) hold: Option<u64>,

    /// Stay until standard input ends once the line of JSON is out
    #[arg(long)]
    pub(crate) hold_until_eof: bool,

    /// `storm`, `storm_mixed`: failing calls [default: 5000000]; `hold`: descriptors [default: 32];
    /// `crowd`: processes at once [default: 32]; scenarios that repeat something: how often
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// `storm`: threads that share the table and the work
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) threads: u64,

    /// Time to go on for: `leak` [default: 1], `two_threads_one_number`, `dup2_over`, `crowd` [default: 10], `busy_*` [default: 9];
    /// `bursts`: between two of them [default: 2]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,

    /// Set for the second half of a scenario that becomes, or starts, another program
    #[arg(long, hide = true)]
    pub(crate) after_exec: bool,
}
