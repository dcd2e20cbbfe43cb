//! One JSON object a line; the fields are those of the contract, never a made-up value.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::{
    diagnosis::{self, HolderFields, VerdictFields},
    event,
    fact::{Exhausted, Fact, Loss, NearLimit, Place, Summary},
    outstanding,
    sanitize::is_hostile,
    stack,
};
use crate::{
    diagnose::{
        ends::{OtherEnd, OtherEnds, SentBy},
        origin::{Ancestor, Origin, Whose},
        remedy::Remedy,
        select::Select,
        shared::SharedHolder,
    },
    probe::runs::ProgramRuns,
};

/// The version of the objects' shape; fields are only ever added to it.
const VERSION: u32 = 1;

/// Writes one line.
pub fn write(output: &mut impl Write, fact: &Fact) -> io::Result<()> {
    match fact {
        // The first object of a stream is the first thing that was seen.
        Fact::Start | Fact::StartTrace | Fact::Notice(_) | Fact::Looked(_) => Ok(()),
        Fact::Event(event) => event::write_json(output, event),
        Fact::Exhausted(exhausted) => line(
            output,
            "exhausted",
            exhausted.time,
            &ExhaustedFields::new(exhausted),
        ),
        Fact::Outstanding(block) => outstanding::write_json(output, block),
        Fact::NearLimit(near) => line(output, "near_limit", near.time, &NearLimitFields::new(near)),
        Fact::Loss(loss) => line(output, "loss", loss.time, &LossFields::from(loss)),
        Fact::Summary(summary) => line(
            output,
            "summary",
            summary.time,
            &SummaryFields::from(summary),
        ),
    }
}

/// Writes one object of any kind.
pub fn line(
    output: &mut impl Write,
    kind: &'static str,
    time: Timestamp,
    fields: &impl Serialize,
) -> io::Result<()> {
    let object = Object {
        v: VERSION,
        kind,
        time: self::time(time),
        fields,
    };
    object.serialize(&mut Serializer::with_formatter(&mut *output, Harmless))?;
    output.write_all(b"\n")
}

/// Escapes what JSON would allow, and a terminal would obey: DEL, C1 controls, direction overrides.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W>(&mut self, output: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (harmless, hostile) = rest.split_at(at);
            output.write_all(harmless.as_bytes())?;
            let Some(character) = hostile.chars().next() else {
                break;
            };
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(output, "\\u{unit:04x}")?;
            }
            rest = &hostile[character.len_utf8()..];
        }
        output.write_all(rest.as_bytes())
    }
}

#[derive(Serialize)]
struct Object<'a, T: Serialize> {
    v: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    #[serde(flatten)]
    fields: &'a T,
}

#[derive(Serialize)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
    #[serde(flatten)]
    whose: WhoseFields,
}

/// Whose limit it is; all `None` where nobody has looked.
#[derive(Default, Serialize)]
struct WhoseFields {
    origin: Option<Origin>,
    parent: Option<AncestorFields>,
    starter: Option<AncestorFields>,
    /// The file of a unit that sets it.
    file: Option<String>,
}

#[derive(Serialize)]
struct AncestorFields {
    pid: u32,
    comm: String,
    soft: Option<u64>,
    hard: Option<u64>,
    script: Option<String>,
}

impl From<&Ancestor> for AncestorFields {
    fn from(ancestor: &Ancestor) -> Self {
        Self {
            pid: ancestor.pid,
            comm: ancestor.comm.clone(),
            soft: ancestor.limits.and_then(|limits| finite(limits.soft)),
            hard: ancestor.limits.and_then(|limits| finite(limits.hard)),
            script: ancestor.script.clone(),
        }
    }
}

impl From<Option<&Whose>> for WhoseFields {
    fn from(whose: Option<&Whose>) -> Self {
        let Some(whose) = whose else {
            return Self::default();
        };
        Self {
            origin: Some(whose.origin),
            parent: whose.parent.as_ref().map(AncestorFields::from),
            starter: whose.starter.as_ref().map(AncestorFields::from),
            file: whose.unit.as_ref().and_then(|unit| unit.path.clone()),
        }
    }
}

/// Who has the other ends of the pipes that fill a table.
#[derive(Serialize)]
struct PipeEndsFields<'a> {
    /// Other processes, those with most of them first.
    others: &'a [OtherEnd],
    /// How many other processes there are.
    total: usize,
    /// Of which both ends are in this process, and those whose other end is closed.
    own: u32,
    closed: u32,
}

impl<'a> From<&'a OtherEnds> for PipeEndsFields<'a> {
    fn from(ends: &'a OtherEnds) -> Self {
        Self {
            others: &ends.others,
            total: ends.total,
            own: ends.own,
            closed: ends.closed,
        }
    }
}

/// The same of unix sockets.
#[derive(Serialize)]
struct UnixEndsFields<'a> {
    #[serde(flatten)]
    known: PipeEndsFields<'a>,
    /// Not accepted yet, and those of which nobody knows who has the other end.
    waiting: u32,
    unknown: u32,
}

impl<'a> From<&'a OtherEnds> for UnixEndsFields<'a> {
    fn from(ends: &'a OtherEnds) -> Self {
        Self {
            known: ends.into(),
            waiting: ends.waiting,
            unknown: ends.unknown,
        }
    }
}

#[derive(Serialize)]
struct ExhaustedFields<'a> {
    failure_time: String,
    errno: &'static str,
    cause: crate::diagnose::cause::Cause,
    silent: Option<crate::diagnose::cause::Silent>,
    pid: u32,
    tid: u32,
    comm: String,
    exe: Option<String>,
    uid: u32,
    cgroup: String,
    unit: Option<String>,
    container: Option<String>,
    pod: Option<String>,
    user_unit: Option<String>,
    container_name: Option<&'a str>,
    pod_name: Option<&'a str>,
    pod_namespace: Option<&'a str>,
    call: &'a str,
    repeats: u64,
    limit: Limit,
    used: Option<u32>,
    open: Option<u32>,
    ended: bool,
    /// The stack of the call that has failed.
    failed_in: Option<Vec<String>>,
    holders: Vec<HolderFields>,
    unlisted: Option<u32>,
    pipe_ends: Option<PipeEndsFields<'a>>,
    unix_ends: Option<UnixEndsFields<'a>>,
    /// Who may have sent files that were dropped.
    sent_by: Option<&'a SentBy>,
    /// Of a limit that processes share: who holds most.
    shared_holders: Option<&'a [SharedHolder]>,
    /// They are the largest of those only that were looked at.
    shared_holders_partial: Option<bool>,
    verdict: Option<VerdictFields<'a>>,
    #[serde(flatten)]
    select: SelectFields<'a>,
    remedy: Vec<Remedy>,
}

impl<'a> ExhaustedFields<'a> {
    fn new(exhausted: &'a Exhausted) -> Self {
        let diagnosis = exhausted.diagnosis.as_ref();
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict.as_ref());
        let place = exhausted.place();
        let named = &exhausted.named;
        Self {
            failure_time: time(exhausted.failure_time),
            errno: exhausted.errno,
            cause: exhausted.cause,
            silent: exhausted.silent,
            pid: exhausted.pid,
            tid: exhausted.tid,
            comm: text(&exhausted.comm),
            exe: exhausted.exe.as_deref().map(text),
            uid: exhausted.uid,
            cgroup: text(&exhausted.cgroup),
            unit: place.unit,
            container: place.container.map(|container| container.id),
            pod: place.pod,
            user_unit: place.user_unit,
            container_name: named.container.as_deref(),
            pod_name: named.pod.as_deref(),
            pod_namespace: named.namespace.as_deref(),
            call: &exhausted.call,
            repeats: exhausted.repeats,
            limit: Limit {
                soft: finite(exhausted.soft),
                hard: finite(exhausted.hard),
                whose: exhausted.whose.as_ref().into(),
            },
            used: exhausted.used,
            open: exhausted.open,
            ended: exhausted.has_ended,
            failed_in: exhausted.failed_in.stack().map(stack::lines),
            unlisted: exhausted.unlisted(),
            pipe_ends: exhausted.ends.pipes.as_ref().map(PipeEndsFields::from),
            unix_ends: exhausted.ends.unix.as_ref().map(UnixEndsFields::from),
            sent_by: exhausted.ends.sent_by.as_ref(),
            shared_holders: exhausted.shared.as_ref().map(|shared| &*shared.holders),
            shared_holders_partial: exhausted.shared.as_ref().map(|shared| shared.is_partial),
            holders: diagnosis
                .map(|diagnosis| diagnosis::holders(diagnosis, &exhausted.openers, exhausted.pid))
                .unwrap_or_default(),
            verdict: verdict.map(VerdictFields::from),
            select: SelectFields::new(exhausted.select.as_ref()),
            remedy: exhausted.remedies(),
        }
    }
}

/// Whether the program uses select(2), and how that is known.
#[derive(Serialize)]
struct SelectFields<'a> {
    select: Option<&'static str>,
    select_nfds: Option<u32>,
    select_by: Option<&'a str>,
}

impl<'a> SelectFields<'a> {
    fn new(select: Option<&'a Select>) -> Self {
        Self {
            select: select.map(Select::name),
            select_nfds: select.and_then(Select::most),
            select_by: select.and_then(Select::imported_by),
        }
    }
}

#[derive(Serialize)]
struct NearLimitFields<'a> {
    pid: u32,
    tid: u32,
    comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    used: Option<u32>,
    limit: Option<u64>,
    hard: Option<u64>,
    percent: Option<u64>,
    /// As those of `limit` in `exhausted`.
    limit_origin: WhoseFields,
    seconds_left: Option<f64>,
    holders: Vec<HolderFields>,
    pipe_ends: Option<PipeEndsFields<'a>>,
    unix_ends: Option<UnixEndsFields<'a>>,
    verdict: Option<VerdictFields<'a>>,
    #[serde(flatten)]
    select: SelectFields<'a>,
    remedy: Vec<Remedy>,
}

impl<'a> NearLimitFields<'a> {
    fn new(near: &'a NearLimit) -> Self {
        let diagnosis = near.diagnosis.as_ref();
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict.as_ref());
        Self {
            pid: near.pid,
            tid: near.tid,
            comm: text(&near.comm),
            uid: near.uid,
            cgroup: near.cgroup.as_deref().map(text),
            used: near.used,
            limit: finite(near.soft),
            hard: finite(near.hard),
            percent: near.percent,
            limit_origin: near.whose.as_ref().into(),
            seconds_left: near.seconds_left().map(f64::round),
            holders: diagnosis
                .map(|diagnosis| diagnosis::holders(diagnosis, &near.openers, near.pid))
                .unwrap_or_default(),
            pipe_ends: near.ends.pipes.as_ref().map(PipeEndsFields::from),
            unix_ends: near.ends.unix.as_ref().map(UnixEndsFields::from),
            verdict: verdict.map(VerdictFields::from),
            select: SelectFields::new(near.select.as_ref()),
            remedy: near.remedies(),
        }
    }
}

#[derive(Serialize)]
struct LossFields {
    #[serde(rename = "where")]
    place: Place,
    count: u64,
    repaired: u64,
}

impl From<&Loss> for LossFields {
    fn from(loss: &Loss) -> Self {
        Self {
            place: loss.place,
            count: loss.count,
            repaired: loss.repaired,
        }
    }
}

#[derive(Serialize)]
struct SummaryFields<'a> {
    backend: &'static str,
    duration_s: f64,
    records: u64,
    lost: u64,
    repaired: u64,
    exhausted: u64,
    failures: u64,
    programs: Option<&'a [ProgramRuns]>,
}

impl<'a> From<&'a Summary> for SummaryFields<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            backend: summary.backend.name(),
            duration_s: summary.duration_s,
            records: summary.records,
            lost: summary.lost,
            repaired: summary.repaired,
            exhausted: summary.exhausted,
            failures: summary.failures,
            programs: summary.programs.as_deref(),
        }
    }
}

/// RFC 3339, to the microsecond.
fn time(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Bytes that are no UTF-8 become U+FFFD.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `RLIM_INFINITY` is no number.
pub(super) fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

#[cfg(test)]
mod tests;
