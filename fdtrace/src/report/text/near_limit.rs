//! A table that nears its limit, in the form of an exhaustion: nothing has failed yet.

use std::io::{self, Write};

use super::{Columns, ends, holders, remedy, verdict};
use crate::report::{
    block::Block,
    fact::NearLimit,
    page::Page,
    place,
    sanitize::printable,
    stack,
    words::{age, count, evidence, given, limit},
};

/// In place of a call.
pub(super) const NEAR_LIMIT: &str = "(near limit)";

pub(super) fn write(output: &mut impl Write, near: &NearLimit, page: Page) -> io::Result<()> {
    let columns = Columns {
        time: near.time,
        pid: near.pid.to_string(),
        comm: &near.comm,
        call: NEAR_LIMIT,
        errno: "-",
        used: count(near.used.map(u64::from)),
        limit: limit(near.soft),
        repeats: "-".to_owned(),
        is_full: false,
    };
    columns.write(output, page)?;
    block(near, page).write(output, page)
}

fn block(near: &NearLimit, page: Page) -> Block {
    let mut block = Block::default();
    let diagnosis = near.diagnosis.as_ref();
    if let Some((style, clause)) = verdict::clause(diagnosis) {
        block.call("verdict", style, clause);
    }
    let who = who(near);
    if !who.is_empty() {
        block.say("who", who);
    }
    if let Some(diagnosis) = diagnosis {
        holders::opened(&mut block, diagnosis, &near.openers, page);
        let nameless = near.openers.nameless();
        if let Some(how) = nameless.and_then(|stack| stack::names(stack, near.pid)) {
            block.say("names", how);
        }
        holders::holds(&mut block, diagnosis, 0, &near.openers, page);
    }
    ends::ends(&mut block, &near.ends);
    block.say("limit", limits(near));
    let judged = diagnosis.and_then(|diagnosis| diagnosis.verdict.as_ref());
    if let Some(verdict) = judged {
        block.say("why", evidence(verdict));
    }
    let verdict = judged.map(|verdict| verdict.kind);
    remedy::write(&mut block, &near.remedies(), verdict);
    block
}

fn who(near: &NearLimit) -> String {
    let cgroup = near.cgroup.as_deref();
    let place = cgroup.and_then(|cgroup| place::words(cgroup, &near.named));
    let mut parts: Vec<_> = near.exe.as_deref().map(printable).into_iter().collect();
    parts.extend(place);
    parts.extend(near.uid.map(|uid| format!("uid {uid}")));
    if near.tid != near.pid {
        parts.push(format!("table of thread {}", near.tid));
    }
    parts.join(", ")
}

fn limits(near: &NearLimit) -> String {
    let (soft, hard) = (limit(near.soft), limit(near.hard));
    let percent = count(near.percent);
    let soft = format!("{percent} % of soft {soft}");
    let mut parts = given(&soft, &hard, near.whose.as_ref());
    let left = near.seconds_left();
    parts.extend(left.map(|seconds| format!("full in {} at this rate", age(seconds))));
    parts.join("; ")
}
