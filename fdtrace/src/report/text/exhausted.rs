//! One exhaustion: a line of columns, and below it what is wrong, where it comes from, and what to type.

use std::io::{self, Write};

use super::{
    Columns,
    cause::{cause, silent},
    ends, holders, remedy, verdict,
};
use crate::{
    diagnose::cause::{Cause, Silent},
    report::{
        block::Block,
        fact::{Exhausted, Shared},
        page::{Page, STRONG},
        place,
        sanitize::printable,
        stack,
        words::{count, evidence, given, limit},
    },
};

pub(super) fn write(output: &mut impl Write, exhausted: &Exhausted, page: Page) -> io::Result<()> {
    let used = exhausted.used.map(u64::from);
    let columns = Columns {
        time: exhausted.time,
        pid: exhausted.pid.to_string(),
        comm: &exhausted.comm,
        call: &exhausted.call,
        errno: exhausted.errno,
        used: count(used),
        limit: limit(exhausted.soft),
        repeats: exhausted.repeats.to_string(),
        is_full: used.is_some_and(|used| used >= exhausted.soft),
    };
    columns.write(output, page)?;
    // What was said of it before is so still.
    if exhausted.is_news {
        block(exhausted, page).write(output, page)?;
    }
    Ok(())
}

fn block(exhausted: &Exhausted, page: Page) -> Block {
    let mut block = Block::default();
    let diagnosis = exhausted.diagnosis.as_ref();
    let judged = diagnosis.and_then(|diagnosis| diagnosis.verdict.as_ref());
    match verdict::clause(diagnosis) {
        Some((style, clause)) if exhausted.cause == Cause::RlimitNofile => {
            block.call("verdict", style, clause);
        }
        Some((style, clause)) => {
            block.call("verdict", style, format!("{clause}; {}", cause(exhausted)));
        }
        None => block.call("verdict", STRONG, cause(exhausted)),
    }
    if let Some(how) = exhausted.silent {
        block.say("silent", silent(how));
        if how == Silent::MsgCtrunc {
            block.say("silent", ends::sent_by(exhausted.ends.sent_by.as_ref()));
        }
    }
    block.say("who", who(exhausted));
    if let Some(diagnosis) = diagnosis {
        holders::opened(&mut block, diagnosis, &exhausted.openers, page);
    }
    if let Some(failed) = failed_in(exhausted, page) {
        block.say("failed", failed);
    }
    let nameless = exhausted.openers.nameless();
    let nameless = nameless.or_else(|| exhausted.failed_in.stack());
    if let Some(how) = nameless.and_then(|stack| stack::names(stack, exhausted.pid)) {
        block.say("names", how);
    }
    if let Some(diagnosis) = diagnosis {
        let unlisted = exhausted.unlisted().unwrap_or_default();
        holders::holds(&mut block, diagnosis, unlisted, &exhausted.openers, page);
    }
    ends::ends(&mut block, &exhausted.ends);
    if let Some(shared) = &exhausted.shared {
        write_shared(&mut block, shared);
    }
    if exhausted.cause.is_fd_limit() {
        block.say("limit", limits(exhausted));
    }
    if let Some(verdict) = judged {
        block.say("why", evidence(verdict));
    }
    let verdict = judged.map(|verdict| verdict.kind);
    remedy::write(&mut block, &exhausted.remedies(), verdict);
    block
}

/// The code that could not open anything more, unless it is the code that has opened most.
fn failed_in(exhausted: &Exhausted, page: Page) -> Option<String> {
    let failed = exhausted.failed_in.stack()?;
    let opened = exhausted.openers.of(0);
    let opened = opened.and_then(|openers| openers.most.first());
    let line = |stack| stack::line(stack, Page::PLAIN);
    let is_same = opened.is_some_and(|(_, opened)| line(opened) == line(failed));
    (!is_same).then(|| format!("in {}", stack::line(failed, page)))
}

/// The program, where it belongs, and who runs it.
fn who(exhausted: &Exhausted) -> String {
    let mut parts: Vec<_> = exhausted
        .exe
        .as_deref()
        .map(printable)
        .into_iter()
        .collect();
    parts.extend(place::words(&exhausted.cgroup, &exhausted.named));
    parts.push(format!("uid {}", exhausted.uid));
    if exhausted.tid != exhausted.pid {
        parts.push(format!("thread {}", exhausted.tid));
    }
    if exhausted.has_ended {
        parts.push("has ended".to_owned());
    }
    parts.join(", ")
}

/// Who holds most of what processes share.
fn write_shared(block: &mut Block, shared: &Shared) {
    for holder in &shared.holders {
        let comm = printable(holder.comm.as_bytes());
        let text = format!("in {comm} ({})", holder.pid);
        block.row("shared", format!("{:>6}  ", holder.count), text);
    }
    if shared.is_partial {
        block.say(
            "shared",
            "(of the processes that were looked at, not of all)",
        );
    }
}

fn limits(exhausted: &Exhausted) -> String {
    let (soft, hard) = (limit(exhausted.soft), limit(exhausted.hard));
    let mut parts = given(&format!("soft {soft}"), &hard, exhausted.whose.as_ref());
    // A number that is taken need not have a file yet.
    if let (Some(open), Some(used)) = (exhausted.open, exhausted.used)
        && open != used
    {
        parts.push(format!("{used} numbers taken, {open} files open"));
    }
    parts.join("; ")
}
