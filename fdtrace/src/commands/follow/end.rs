//! What may end a stream: this list, and nothing else.
//!
//! An error of one process, map entry, file or lookup is none of it: it is noted in
//! [`crate::commands::troubles`], reported, and the stream goes on. Where the output could not be written,
//! whoever finishes it says why, with exit status 2; every other end is an ordinary one.

/// Why following has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum End {
    /// `--duration` is over.
    Duration,
    /// SIGINT, as of Ctrl-C, or SIGTERM.
    Signal,
    /// The listener has had enough: `watch --once` has made its report.
    Enough,
    /// Whoever reads stdout has closed it, or stdout or the recording's file cannot be written.
    Output,
    /// The processes given with `--pid` have ended, which has been told.
    Gone,
    /// `leaks -- COMMAND`: the command has ended.
    Command,
}
