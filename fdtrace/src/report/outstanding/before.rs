//! Fds of nearly full processes that were open before fdtrace looked, below a block of outstanding ones.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    diagnose::outstanding::FromBefore,
    report::{diagnosis::HolderFields, json, sanitize::printable, text::write_snapshot},
};

/// A line on the process, and one on each of the things its fds lead to.
pub(super) fn write_text(output: &mut impl Write, before: &FromBefore) -> io::Result<()> {
    let used = before
        .used
        .map_or_else(|| "?".to_owned(), |used| used.to_string());
    let since = match before.closed {
        0 => "none of these has been closed since".to_owned(),
        closed => format!("{closed} others have been closed since"),
    };
    writeln!(
        output,
        "         {} {}: {used} of {} fds are in use, {} of them were open before fdtrace looked; {since}",
        before.pid,
        printable(&before.comm),
        before.soft,
        before.open,
    )?;
    write_snapshot(output, &before.holders)
}

#[derive(Serialize)]
struct Fields {
    pid: u32,
    tid: u32,
    comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    open: u32,
    closed: u32,
    used: Option<u32>,
    limit: Option<u64>,
    holders: Vec<HolderFields>,
}

/// An object for the process.
pub(super) fn write_json(
    output: &mut impl Write,
    time: Timestamp,
    before: &FromBefore,
    owner: Option<&(Option<u32>, Option<Vec<u8>>)>,
) -> io::Result<()> {
    let fields = Fields {
        pid: before.pid,
        tid: before.pid,
        comm: json::text(&before.comm),
        uid: owner.and_then(|(uid, _)| *uid),
        cgroup: owner
            .and_then(|(_, cgroup)| cgroup.as_deref())
            .map(json::text),
        open: before.open,
        closed: before.closed,
        used: before.used,
        limit: (before.soft != u64::MAX).then_some(before.soft),
        holders: before
            .holders
            .iter()
            .map(HolderFields::of_snapshot)
            .collect(),
    };
    json::line(output, "open_before", time, &fields)
}
