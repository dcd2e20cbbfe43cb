//! One change of one slot, a line each: what `trace` shows.

use std::{
    io::{self, Write},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    json::{self, text},
    page::Page,
    sanitize::printable,
    stack,
    zone::local,
};
use crate::{
    engine::change::{Change, Op},
    enrich::{
        lookup::Lookup,
        stacks::{AwaitedStack, Stack},
    },
    ground::{call, kind::Kind},
    stream::{clock::Clock, decode::Alarm},
};

/// One change, or one call that failed for want of an fd. Text is hostile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdEvent {
    /// When.
    pub time: Timestamp,
    /// How the slot changed.
    pub op: Op,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its user, where it is known.
    pub uid: Option<u32>,
    /// The cgroup v2 path, where it is known.
    pub cgroup: Option<Vec<u8>>,
    /// The number; `None` where there was none to be had.
    pub fd: Option<u32>,
    /// What it leads to.
    pub kind: Option<Kind>,
    /// Its full path where it is still open, else the last part of it, or the kernel's name for it.
    pub target: Vec<u8>,
    /// Inode number, to recognise it by.
    pub inode: u64,
    /// The call, where it is known.
    pub call: Option<String>,
    /// Why it failed.
    pub errno: Option<&'static str>,
    /// The stack of whoever has put it there, while it is being resolved.
    pub awaited: Option<AwaitedStack>,
    /// The same, resolved.
    pub stack: Option<Arc<Stack>>,
}

impl FdEvent {
    /// A change of the model; `has_details` where its record told the user and the call.
    #[must_use]
    pub fn changed(change: &Change, name: &[u8], has_details: bool, clock: Clock) -> Self {
        let comm = change.comm.split(|byte| *byte == 0).next();
        let kind = change.open.kind;
        let is_by_call = matches!(
            change.op,
            Op::Open | Op::Dup | Op::Replace | Op::Receive | Op::Close
        );
        Self {
            time: if change.time_ns == 0 {
                clock.now()
            } else {
                clock.at(change.time_ns)
            },
            op: change.op,
            pid: change.tgid,
            tid: change.tid,
            comm: comm.unwrap_or_default().to_vec(),
            uid: has_details.then_some(change.uid),
            cgroup: None,
            fd: Some(change.open.fd),
            kind: Some(kind),
            target: target(kind, name, change.open.inode),
            inode: change.open.inode,
            call: (has_details && is_by_call).then(|| call::name(change.call).into_owned()),
            errno: None,
            awaited: None,
            stack: None,
        }
    }

    /// A call that got no fd.
    #[must_use]
    pub fn failed(alarm: Alarm, clock: Clock) -> Self {
        Self {
            time: clock.at(alarm.time_ns),
            op: Op::Failed,
            pid: alarm.key.tgid,
            tid: alarm.tid,
            comm: alarm.comm,
            uid: Some(alarm.uid),
            cgroup: Some(alarm.cgroup),
            fd: None,
            kind: None,
            target: Vec::new(),
            inode: 0,
            call: Some(call::name(alarm.key.call).into_owned()),
            errno: Some(match alarm.key.errno {
                9 => "EBADF",
                23 => "ENFILE",
                _ => "EMFILE",
            }),
            awaited: None,
            stack: None,
        }
    }

    /// Looks up what only /proc can tell, and waits for the stack. Not for the loop that reads records.
    pub fn complete(&mut self, lookup: &mut dyn Lookup) {
        let stays = matches!(
            self.op,
            Op::Open | Op::Dup | Op::Replace | Op::Receive | Op::Inherit
        );
        let has_path = self.kind.is_some_and(Kind::has_path);
        if let Some(fd) = self.fd.filter(|_| stays && has_path)
            && let Some(path) = lookup.path(self.pid, fd, self.inode)
        {
            self.target = path;
        }
        if let Some(awaited) = self.awaited.take() {
            self.stack = awaited.wait().flatten();
        }
    }
}

/// Names as /proc spells them, where the file has none of its own.
fn target(kind: Kind, name: &[u8], inode: u64) -> Vec<u8> {
    match kind {
        Kind::Pipe => format!("pipe:[{inode}]").into_bytes(),
        Kind::Tcp
        | Kind::Udp
        | Kind::Unix
        | Kind::Netlink
        | Kind::Packet
        | Kind::Vsock
        | Kind::Socket => format!("socket:[{inode}]").into_bytes(),
        _ => name.to_vec(),
    }
}

/// The names of the columns.
pub fn write_header(output: &mut impl Write) -> io::Result<()> {
    writeln!(
        output,
        "{:<12} {:>7} {:<15} {:>5} {:<10} {:<8} TARGET",
        "TIME", "PID", "COMM", "FD", "OP", "KIND"
    )
}

/// One line for people.
pub fn write_text(output: &mut impl Write, event: &FdEvent, page: Page) -> io::Result<()> {
    let time = local(event.time);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut target = printable(&event.target);
    if let Some(errno) = event.errno {
        target = format!("{}: {errno}", event.call.as_deref().unwrap_or("?"));
    }
    writeln!(
        output,
        "{:<12} {:>7} {:<15} {:>5} {:<10} {:<8} {target}",
        time.strftime("%H:%M:%S%.3f").to_string(),
        event.pid,
        printable(&event.comm),
        or_dash(event.fd.map(|fd| fd.to_string())),
        event.op.to_string(),
        or_dash(event.kind.map(|kind| kind.to_string())),
    )?;
    match &event.stack {
        Some(stack) => stack::write_text(output, stack, event.pid, page),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct EventFields<'a> {
    op: Op,
    pid: u32,
    tid: u32,
    comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    fd: Option<u32>,
    kind: Option<Kind>,
    target: Option<String>,
    inode: Option<u64>,
    call: Option<&'a str>,
    errno: Option<&'a str>,
    /// What an interpreter runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'a str>,
    stack: Option<Vec<String>>,
    stack_is_cut: Option<bool>,
    /// What would give names to functions that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<String>,
}

/// One object for scripts.
pub fn write_json(output: &mut impl Write, event: &FdEvent) -> io::Result<()> {
    let fields = EventFields {
        op: event.op,
        pid: event.pid,
        tid: event.tid,
        comm: text(&event.comm),
        uid: event.uid,
        cgroup: event.cgroup.as_deref().map(text),
        fd: event.fd,
        kind: event.kind,
        target: (!event.target.is_empty()).then(|| text(&event.target)),
        inode: (event.inode != 0).then_some(event.inode),
        call: event.call.as_deref(),
        errno: event.errno,
        script: event
            .stack
            .as_deref()
            .and_then(|stack| stack.script.as_deref()),
        stack: event.stack.as_deref().map(stack::lines),
        stack_is_cut: event.stack.as_deref().map(|stack| stack.is_cut),
        names: event
            .stack
            .as_deref()
            .and_then(|stack| stack::names(stack, event.pid)),
    };
    json::line(output, "fd_event", event.time, &fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::table::OpenFd, stream::decode::samples::alarm};

    fn written(event: &FdEvent) -> (String, String) {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_text(&mut text, event, Page::PLAIN).unwrap();
        write_json(&mut json, event).unwrap();
        (
            String::from_utf8(text).unwrap(),
            String::from_utf8(json).unwrap(),
        )
    }

    #[test]
    fn hostile_names_stay_in_their_line() {
        let change = Change {
            op: Op::Open,
            time_ns: 1,
            files: 1,
            open: OpenFd {
                fd: 7,
                kind: Kind::File,
                ..OpenFd::default()
            },
            tgid: 5,
            tid: 6,
            uid: 0,
            call: 257,
            in_scope: true,
            comm: *b"a\x1b[2Jb\0\0\0\0\0\0\0\0\0\0",
            process: [0; 16],
        };
        let name = b"x\ny\x1b]0;z";
        let (text, json) = written(&FdEvent::changed(&change, name, true, Clock::System));
        assert_eq!(text.lines().count(), 1);
        assert!(
            !text.contains('\x1b') && !json.contains('\x1b'),
            "{text}{json}"
        );
        assert!(json.contains("\"call\":\"openat\""), "{json}");
    }

    #[test]
    fn a_failure_has_an_errno_and_no_fd() {
        let (text, json) = written(&FdEvent::failed(alarm(), Clock::System));
        assert!(text.contains("failed") && text.contains("EMFILE"), "{text}");
        assert!(json.contains("\"fd\":null"), "{json}");
    }
}
