//! What `fdtrace relieve` has found, and what it has done: a block of labelled lines, or an object.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    block::Block,
    json::{self, finite, text},
    page::{Page, STRONG},
    place,
    sanitize::printable,
    words::{counted, limit},
};
use crate::{
    diagnose::{
        relieve::{Check, Limits, Outcome, Subject},
        select::Select,
    },
    enrich::names::Named,
    ground::place::parse,
};

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nothing was changed: it may be.
    Safe,
    /// Nothing was changed: it must not be.
    Refused,
    /// The limit was raised.
    Done,
    /// The limits are as they were.
    Undone,
    /// They stay raised.
    Kept,
}

/// A process that is raised, or may be. Text is the process's own: untrusted.
#[derive(Clone, Debug)]
pub struct Relieved<'a> {
    /// When.
    pub time: Timestamp,
    /// The process.
    pub subject: &'a Subject,
    /// Its v2 cgroup.
    pub cgroup: Option<&'a [u8]>,
    /// The limits to set, or that were set; `None`: they are as high already.
    pub target: Option<Limits>,
    /// What was checked.
    pub checks: &'a [Check],
    /// What has come of it.
    pub end: End,
    /// Where it says how to undo it.
    pub undo: Option<PathBuf>,
    /// What was seen afterwards.
    pub seen: Option<Seen>,
}

/// What was seen of a process after it was raised.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// For so long it was watched.
    pub seconds: f64,
    /// It has ended, so long after it was raised.
    pub ended_s: Option<f64>,
    /// The signal that has ended it, if that could be seen.
    pub signal: Option<i32>,
    /// Calls still fail at its limit; `None`: that cannot be seen.
    pub fails: Option<bool>,
    /// Fds that it has open at the end.
    pub open: Option<u64>,
}

/// A process whose limits are set back.
#[derive(Clone, Debug)]
pub struct Lowered<'a> {
    /// When.
    pub time: Timestamp,
    /// The process.
    pub pid: u32,
    /// Its name; untrusted.
    pub comm: &'a [u8],
    /// The limits now.
    pub from: Limits,
    /// What they were.
    pub to: Limits,
    /// Fds that it has open.
    pub open: Option<u64>,
    /// What has come of it.
    pub end: End,
}

#[derive(Serialize)]
struct LimitFields {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl From<Limits> for LimitFields {
    fn from(limits: Limits) -> Self {
        Self {
            soft: finite(limits.soft),
            hard: finite(limits.hard),
        }
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    pid: u32,
    comm: String,
    exe: Option<String>,
    uid: Option<u32>,
    cgroup: Option<String>,
    unit: Option<String>,
    end: End,
    from: LimitFields,
    to: Option<LimitFields>,
    used: Option<u64>,
    select: Option<&'static str>,
    checks: &'a [Check],
    undo: Option<String>,
    seen: Option<&'a Seen>,
}

/// Writes it.
pub fn write(
    output: &mut impl Write,
    relieved: &Relieved<'_>,
    page: Option<Page>,
) -> io::Result<()> {
    match page {
        Some(page) => write_text(output, relieved, page),
        None => write_json(output, relieved),
    }
}

fn write_json(output: &mut impl Write, relieved: &Relieved<'_>) -> io::Result<()> {
    let subject = relieved.subject;
    let place = relieved.cgroup.map(parse);
    let fields = Fields {
        pid: subject.pid,
        comm: text(&subject.comm),
        exe: subject.exe.as_deref().map(text),
        uid: subject.uid,
        cgroup: relieved.cgroup.map(text),
        unit: place.and_then(|place| place.unit),
        end: relieved.end,
        from: subject.limits.into(),
        to: relieved.target.map(LimitFields::from),
        used: subject.used,
        select: subject.select.as_ref().map(Select::name),
        checks: relieved.checks,
        undo: relieved
            .undo
            .as_ref()
            .map(|path| path.display().to_string()),
        seen: relieved.seen.as_ref(),
    };
    json::line(output, "relieved", relieved.time, &fields)
}

fn write_text(output: &mut impl Write, relieved: &Relieved<'_>, page: Page) -> io::Result<()> {
    let subject = relieved.subject;
    let place = relieved
        .cgroup
        .and_then(|cgroup| place::words(cgroup, &Named::default()));
    let place = place.map(|place| format!(", {place}")).unwrap_or_default();
    let change = match relieved.target {
        Some(target) => format!(
            "soft limit {} to {}",
            limit(subject.limits.soft),
            limit(target.soft)
        ),
        None => format!("soft limit {} stays", limit(subject.limits.soft)),
    };
    let name = printable(&subject.comm);
    writeln!(output, "{} {name}{place}: {change}", subject.pid)?;
    let mut block = Block::default();
    for check in relieved.checks {
        let evidence = printable(check.evidence.as_bytes());
        match check.outcome {
            Outcome::Ok => block.say(check.check, evidence),
            Outcome::Warning => block.call(check.check, STRONG, format!("WARNING {evidence}")),
            Outcome::Refused => block.call(check.check, STRONG, format!("REFUSED {evidence}")),
            Outcome::Impossible => {
                block.call(check.check, STRONG, format!("IMPOSSIBLE {evidence}"));
            }
        }
    }
    if relieved.end == End::Done {
        block.call("done", STRONG, done(relieved));
    }
    if let Some(seen) = &relieved.seen {
        block.say("after", after(seen));
    }
    if relieved.undo.is_some() {
        block.command(
            "undo",
            STRONG,
            format!("fdtrace relieve --undo {} --yes", subject.pid),
        );
    }
    block.write(output, page)
}

fn done(relieved: &Relieved<'_>) -> String {
    let target = relieved.target.unwrap_or(relieved.subject.limits);
    format!(
        "RAISED to soft {}, hard {}",
        limit(target.soft),
        limit(target.hard)
    )
}

fn after(seen: &Seen) -> String {
    if let Some(after) = seen.ended_s {
        let signal = seen.signal.map(|signal| format!(" by signal {signal}"));
        return format!(
            "the process ended{} {after:.1} s later",
            signal.unwrap_or_default()
        );
    }
    let fails = match seen.fails {
        Some(true) => "calls still fail at its limit",
        Some(false) => "no call has failed at its limit",
        None => "it runs; failures of calls cannot be seen",
    };
    let open = seen
        .open
        .map(|open| format!(", {} open", counted(open, "fd")));
    format!(
        "{fails} in {:.0} s{}",
        seen.seconds,
        open.unwrap_or_default()
    )
}

#[derive(Serialize)]
struct LoweredFields {
    pid: u32,
    comm: String,
    end: End,
    from: LimitFields,
    to: LimitFields,
    used: Option<u64>,
}

/// Writes it.
pub fn write_lowered(
    output: &mut impl Write,
    lowered: &Lowered<'_>,
    page: Option<Page>,
) -> io::Result<()> {
    if page.is_none() {
        let fields = LoweredFields {
            pid: lowered.pid,
            comm: text(lowered.comm),
            end: lowered.end,
            from: lowered.from.into(),
            to: lowered.to.into(),
            used: lowered.open,
        };
        return json::line(output, "relieved", lowered.time, &fields);
    }
    let (from, to) = (limit(lowered.from.soft), limit(lowered.to.soft));
    let words = match lowered.end {
        End::Undone => format!(
            "soft limit {from} set back to {to}, hard {}",
            limit(lowered.to.hard)
        ),
        End::Kept => format!("soft limit stays {from}"),
        _ => format!("soft limit {from} may be set back to {to}"),
    };
    let open = lowered
        .open
        .map(|open| format!("; {} open", counted(open, "fd")));
    let name = printable(lowered.comm);
    writeln!(
        output,
        "{} {name}: {words}{}",
        lowered.pid,
        open.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{cause::Cause, relieve::Around};

    fn subject() -> Subject {
        Subject {
            pid: 2231,
            comm: b"we\x1b[2Jb".to_vec(),
            exe: Some(b"/usr/bin/web\n".to_vec()),
            uid: Some(33),
            is_kernel_thread: false,
            is_in_other_namespace: Some(false),
            may_be_changed: true,
            limits: Limits {
                soft: 1_024,
                hard: u64::MAX,
            },
            used: Some(1_024),
            grown: 30,
            seconds: 3.0,
            failures: vec![Cause::RlimitNofile],
            select: Some(Select::Called { most: 1_000 }),
            is_go: true,
        }
    }

    fn written(page: Option<Page>) -> String {
        let subject = subject();
        let around = Around {
            may_raise_hard: true,
            ..Around::default()
        };
        let target = subject.target(None, &around);
        let checks = subject.checks(target, &around);
        let relieved = Relieved {
            time: "2026-11-22T08:15:30Z".parse().unwrap(),
            subject: &subject,
            cgroup: Some(b"/system.slice/web.service"),
            target,
            checks: &checks,
            end: End::Done,
            undo: Some("/run/fdtrace/relieve/2231-4200.json".into()),
            seen: Some(Seen {
                seconds: 0.5,
                ended_s: Some(0.25),
                signal: Some(6),
                fails: Some(false),
                open: None,
            }),
        };
        let mut output = Vec::new();
        write(&mut output, &relieved, page).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_block_for_people_is_harmless_and_says_what_was_found_and_done() {
        insta::assert_snapshot!(written(Some(Page::PLAIN)));
    }

    #[test]
    fn an_object_for_scripts() {
        insta::assert_snapshot!(written(None));
    }
}
