//! Outstanding fds as text, as JSON and as folded stacks: what `leaks` shows.

mod before;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    diagnosis::{HolderFields, VerdictFields},
    folders, json,
    page::Page,
    sanitize::printable,
    stack,
    words::{self, age, counted, seconds_between, sentence},
    zone::local,
};
use crate::{
    diagnose::{
        holders::Holder,
        outstanding::{Block, Found, Row, Rows},
    },
    enrich::{
        self,
        lookup::Lookup,
        stacks::{Awaited, Detail},
    },
};

/// One block, and what it is to look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Outstanding {
    /// When.
    pub time: Timestamp,
    /// What was outstanding; until [`Outstanding::complete`] has returned, nothing.
    pub block: Block,
    /// The same, while it is being taken apart by code path.
    pub awaited: Option<Awaited<Block>>,
    /// What it is made of, and how many rows it has at most: where it does not come, there are no stacks.
    pub found: Option<(Arc<Found>, usize)>,
    /// From which age on, seconds.
    pub older_s: f64,
    /// As folded stacks, for flame graphs.
    pub is_folded: bool,
    /// User and cgroup of each row and then of each process below them, where they are known.
    pub owners: Vec<(Option<u32>, Option<Vec<u8>>)>,
}

impl Outstanding {
    /// Waits for the block, and looks up what it does not tell. Not for the loop that reads records.
    pub fn complete(&mut self, lookup: &mut dyn Lookup) {
        if let Some(awaited) = self.awaited.take() {
            let found = self.found.take();
            let without = || {
                let (found, top) = found?;
                Some(Rows::new(top, Detail::Shown).block(&found, |_| None))
            };
            self.block = awaited.wait().or_else(without).unwrap_or_default();
        }
        for row in &mut self.block.rows {
            enrich::holders::find_paths(std::slice::from_mut(&mut row.holder), row.pid, lookup);
            self.owners
                .push((lookup.user(row.pid), lookup.cgroup(row.pid)));
        }
        for before in &mut self.block.before {
            enrich::holders::find_paths(&mut before.holders, before.pid, lookup);
            self.owners
                .push((lookup.user(before.pid), lookup.cgroup(before.pid)));
        }
    }
}

/// A block for people.
pub fn write_text(
    output: &mut impl Write,
    outstanding: &Outstanding,
    page: Page,
) -> io::Result<()> {
    if outstanding.is_folded {
        return write_folded(output, outstanding);
    }
    let block = &outstanding.block;
    let time = local(outstanding.time);
    let at_least = match outstanding.older_s {
        0.0 => String::new(),
        older_s => format!(" for {} or longer", age(older_s)),
    };
    writeln!(
        output,
        "{} {} outstanding{at_least}, in {}",
        time.strftime("%H:%M:%S"),
        counted(block.fds, "fd"),
        processes(block.processes),
    )?;
    if block.rows.is_empty() {
        return write_before(output, block);
    }
    writeln!(
        output,
        "{:>8} {:>7} {:>9} {:>9} {:>7} {:<15} {:<8} TARGET",
        "COUNT", "GROWN", "OLDEST", "NEWEST", "PID", "COMM", "KIND"
    )?;
    // What would give names is told once of each process.
    let mut told = BTreeSet::new();
    for row in &block.rows {
        let age_of = |moment_ns: Option<u64>| {
            let seconds = moment_ns.map(|moment_ns| seconds_between(moment_ns, block.now_ns));
            seconds.map_or_else(|| "-".to_owned(), age)
        };
        let grown = row.grown_by;
        writeln!(
            output,
            "{:>8} {:>7} {:>9} {:>9} {:>7} {:<15} {:<8} {}",
            row.holder.count,
            grown.map_or_else(|| "-".to_owned(), |grown| format!("{grown:+}")),
            age_of(row.holder.oldest_ns),
            age_of(row.holder.newest_ns),
            row.pid,
            printable(&row.comm),
            row.holder.kind.to_string(),
            described(row),
        )?;
        if let Some(stack) = &row.stack {
            writeln!(output, "                 by {}", stack::line(stack, page))?;
            let how = stack::names(stack, row.pid);
            if let Some(how) = how.filter(|_| told.insert(row.pid)) {
                writeln!(output, "                 ({how})")?;
            }
        }
    }
    for (pid, comm, verdict) in &block.verdicts {
        let comm = printable(comm);
        writeln!(output, "         {pid} {comm}: {}", sentence(verdict))?;
    }
    write_before(output, block)?;
    writeln!(output)
}

fn write_before(output: &mut impl Write, block: &Block) -> io::Result<()> {
    let mut before = block.before.iter();
    before.try_for_each(|before| before::write_text(output, before))
}

fn processes(count: usize) -> String {
    format!("{count} process{}", if count == 1 { "" } else { "es" })
}

fn target(holder: &Holder) -> String {
    let Some(target) = words::target(holder) else {
        return "-".to_owned();
    };
    match &folders::several(holder)[..] {
        [] if holder.target.is_none() && holder.folders.is_none() => format!("({target})"),
        [] => target,
        folders => format!("({target}: {})", folders.join(", ")),
    }
}

/// What a row leads to, as far as that is known of its fds.
fn described(row: &Row) -> String {
    let target = target(&row.holder);
    match row.endless {
        0 => target,
        endless => format!("{target} ({endless} not known yet)"),
    }
}

/// `comm;kind;target count`, as flame graphs are made of.
fn write_folded(output: &mut impl Write, outstanding: &Outstanding) -> io::Result<()> {
    for row in &outstanding.block.rows {
        let functions = row.stack.as_ref().map(|stack| {
            let frames = stack.from_caller().iter().rev();
            let functions = frames.map(|frame| printable(frame.to_string().as_bytes()));
            functions.collect::<Vec<_>>()
        });
        let mut frames = vec![printable(&row.comm)];
        let script = row.stack.as_ref().and_then(|stack| stack.script.as_ref());
        frames.extend(script.map(|script| printable(script.as_bytes())));
        frames.extend(functions.into_iter().flatten());
        frames.extend([row.holder.kind.to_string(), target(&row.holder)]);
        // A frame ends at a semicolon, the stack at a space.
        let frames: Vec<_> = frames
            .into_iter()
            .map(|frame| frame.replace([';', ' '], "_"))
            .collect();
        writeln!(output, "{} {}", frames.join(";"), row.holder.count)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct RowFields<'a> {
    pid: u32,
    tid: u32,
    comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    #[serde(flatten)]
    holder: HolderFields,
    /// Sockets among them of which it is not known yet where they lead to.
    unknown_ends: u32,
    grown_by: Option<i64>,
    verdict: Option<VerdictFields<'a>>,
}

/// An object a row.
pub fn write_json(output: &mut impl Write, outstanding: &Outstanding) -> io::Result<()> {
    let block = &outstanding.block;
    let mut owners = outstanding.owners.iter();
    for row in &block.rows {
        let owner = owners.next();
        let verdict = block.verdicts.iter().find(|(pid, ..)| *pid == row.pid);
        let fields = RowFields {
            pid: row.pid,
            tid: row.pid,
            comm: json::text(&row.comm),
            uid: owner.and_then(|(uid, _)| *uid),
            cgroup: owner
                .and_then(|(_, cgroup)| cgroup.as_deref())
                .map(json::text),
            // All of them were opened while somebody looked: there is no age but a known one.
            holder: HolderFields::new(
                &row.holder,
                row.stack.as_deref(),
                row.pid,
                block.now_ns,
                block.now_ns,
            ),
            unknown_ends: row.endless,
            grown_by: row.grown_by,
            verdict: verdict.map(|(_, _, verdict)| VerdictFields::from(verdict)),
        };
        json::line(output, "outstanding", outstanding.time, &fields)?;
    }
    for before in &block.before {
        before::write_json(output, outstanding.time, before, owners.next())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
