//! What gym tells when it is done.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    io::{self, Write as _},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Who ran out, with which call, and how often.
///
/// A victim that is a child sends this to the process that prints it.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Facts {
    /// The process that ran out.
    pub(crate) pid: i32,
    /// The thread that made the call.
    pub(crate) tid: i32,
    /// That thread's name; bytes that are not UTF-8 are replaced.
    pub(crate) comm: String,
    /// The failing system call.
    pub(crate) call: String,
    /// How many calls failed for want of what the scenario is about.
    pub(crate) failures: u64,
    /// What the caller saw; none where it was not told with an errno.
    pub(crate) errno: Option<String>,
    /// The soft limit while it failed.
    pub(crate) soft: u64,
    /// Descriptors open in the failing thread's table while it failed.
    pub(crate) used: u64,
    /// Entries of the process's own `/proc/self/fd`, without the one that listing them takes; the
    /// same as `used` where they are not, or cannot be, listed.
    pub(crate) open: u64,
    /// Processes that the started one made for the scenario, oldest first.
    pub(crate) children: Vec<i32>,
    /// The kind of each number, from the scenario that has one of every kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) kinds: BTreeMap<i32, String>,
    /// Nanoseconds that a timed repetition took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ns: Option<u64>,
    /// How often the timed operation was repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<u64>,
    /// What most of the descriptors were when it ran out, from the scenarios that are services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<Holder>,
    /// What else there is to know.
    pub(crate) note: Option<String>,
}

/// Descriptors that lead to the same.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Holder {
    /// What they are, in fdtrace's words.
    pub(crate) kind: String,
    /// The path, or the other end's address; none where they are many, or have none.
    pub(crate) target: Option<String>,
    /// How many.
    pub(crate) count: u64,
}

/// The line that is printed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Its name.
    scenario: &'a str,
    /// The process that was started, which need not be the one that ran out.
    started: u32,
    /// What happened.
    #[serde(flatten)]
    facts: Facts,
    /// Whether all was as expected.
    ok: bool,
    /// Why it could not be tried here.
    skipped: Option<String>,
}

/// Prints the line of JSON.
pub(crate) fn tell(
    scenario: &str,
    facts: Facts,
    ok: bool,
    skipped: Option<String>,
) -> anyhow::Result<()> {
    let report = Report {
        scenario,
        started: std::process::id(),
        facts,
        ok,
        skipped,
    };
    say(&serde_json::to_string(&report)?)
}

/// Prints a line at once.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("standard output")
}

/// The reason why a scenario cannot be had on this kernel, or by this user.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skip {}

/// Makes the scenario one to skip if the kernel does not offer `what` or does not allow it.
pub(crate) fn offered<T>(what: &str, result: io::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error.raw_os_error() {
        Some(
            libc::ENOSYS
            | libc::EPERM
            | libc::EACCES
            | libc::EROFS
            | libc::ENOENT
            | libc::ENODEV
            | libc::ENXIO
            | libc::ENOPROTOOPT,
        ) => Skip(format!("{what}: {error}")).into(),
        _ => anyhow::Error::from(error).context(what.to_owned()),
    })
}

/// The constant's name of an errno that a scenario can meet.
pub(crate) fn errno_name(errno: i32) -> String {
    match errno {
        libc::EBADF => "EBADF".to_owned(),
        libc::EMFILE => "EMFILE".to_owned(),
        libc::ENFILE => "ENFILE".to_owned(),
        other => format!("errno {other}"),
    }
}
