//! Fds that have been open for longer than they should, and how many more there are each time. Pure.
//!
//! In two steps, because which line of code has opened an fd is known on another thread: [`Outstanding`]
//! finds groups in the tables, and [`Rows`] takes them apart by code path, where it is known.

mod before;
mod rows;

pub use self::{
    before::{AtStart, FromBefore},
    rows::{Block, Row, Rows},
};
use super::{
    diagnosis::{Diagnosis, Patient},
    holders::{Holder, Opened, crowds},
    verdict::{self, Verdict},
};
use crate::{
    engine::{
        Engine,
        table::{Entry, OpenFd, Table},
    },
    ground::task::Task,
};

/// Groups that are kept at least until they are taken apart: a large one may fall into many small ones.
const KEPT_MIN: usize = 256;

/// Groups that are kept until they are taken apart, where so many rows are shown.
fn kept(top: usize) -> usize {
    top.saturating_mul(4).max(KEPT_MIN)
}

/// Fds of one process that lead to the same: either all of their stacks are known, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The process.
    pub pid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// All of them together.
    pub holder: Holder,
    /// Each of them, with its stack; empty: nobody knows one.
    pub opened: Vec<Opened>,
}

/// What was outstanding at one moment, not yet by code path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The moment, nanoseconds since boot.
    pub now_ns: u64,
    /// The largest groups, the largest first.
    pub groups: Vec<Group>,
    /// There were more.
    pub is_cut: bool,
    /// Fds outstanding, those in no group included.
    pub fds: u64,
    /// Processes that have some.
    pub processes: usize,
    /// Leak or load, for each process with a group; where there is too little to tell, it is left out.
    pub verdicts: Vec<(u32, Vec<u8>, Verdict)>,
    /// What nearly full processes hold from before.
    pub before: Vec<FromBefore>,
}

/// Looks at the tables, block by block.
#[derive(Debug)]
pub struct Outstanding {
    older_ns: u64,
    top: usize,
    at_start: AtStart,
}

impl Outstanding {
    /// Fds count from this age on; so many rows are shown.
    #[must_use]
    pub fn new(older_ns: u64, top: usize) -> Self {
        Self {
            older_ns,
            top,
            at_start: AtStart::default(),
        }
    }

    /// The tables from before are known: what leaves them from here on is closed. Once.
    pub fn begin(&mut self, engine: &dyn Engine) {
        self.at_start.take_down(engine);
    }

    /// Is it old enough, and opened by the process itself while somebody looked?
    #[must_use]
    pub fn counts(&self, open: &OpenFd, now_ns: u64) -> bool {
        open.since_ns > 0
            && !open.is_inherited
            && open.since_ns.saturating_add(self.older_ns) <= now_ns
    }

    /// What is outstanding in the tables of these tasks.
    #[must_use]
    pub fn look(&self, engine: &dyn Engine, tasks: &[Task], now_ns: u64) -> Found {
        let mut found = Found {
            now_ns,
            ..Found::default()
        };
        let counts = |open: &OpenFd| self.counts(open, now_ns);
        for task in tasks {
            // In most tables there is nothing.
            if engine.fds(task.files, 0).any(|open| counts(&open))
                && let Some(table) = engine.table(task.files)
            {
                found.add(task, &table, |entry| counts(&entry.open), self.top);
            }
        }
        found.shorten(self.top);
        for task in tasks {
            if found.groups.iter().any(|group| group.pid == task.tgid) {
                found.judge(task, engine);
            }
        }
        found.before = self.at_start.full(engine, tasks, self.top);
        found
    }

    /// The same of a table that is gone already: all that a process has left open when it ended.
    #[must_use]
    pub fn of_ended(&self, task: &Task, table: &Table, now_ns: u64) -> Found {
        let mut found = Found {
            now_ns,
            ..Found::default()
        };
        found.add(task, table, |_| true, self.top);
        found.shorten(self.top);
        found
    }
}

impl Found {
    fn add(&mut self, task: &Task, table: &Table, is_wanted: impl Fn(&Entry) -> bool, top: usize) {
        let mut fds = 0;
        for has_opener in [false, true] {
            let is_in = |entry: &&Entry| is_wanted(entry) && entry.opener.is_some() == has_opener;
            let entries = table.entries.iter().filter(is_in);
            for (holder, opened) in crowds(table, entries, top) {
                fds += u64::from(holder.count);
                self.groups.push(Group {
                    pid: task.tgid,
                    comm: task.comm.clone(),
                    holder,
                    opened,
                });
            }
        }
        self.fds += fds;
        self.processes += usize::from(fds > 0);
        if self.groups.len() > 2 * kept(top) {
            self.shorten(top);
        }
    }

    fn shorten(&mut self, top: usize) {
        self.groups.sort_by(|one, other| {
            let by_count = other.holder.count.cmp(&one.holder.count);
            by_count.then(one.pid.cmp(&other.pid))
        });
        self.is_cut |= self.groups.len() > kept(top);
        self.groups.truncate(kept(top));
    }

    fn judge(&mut self, task: &Task, engine: &dyn Engine) {
        let diagnosis = Diagnosis::of(Patient::of_task(task), engine, self.now_ns);
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict);
        let verdict = verdict.filter(|verdict| verdict.kind != verdict::Kind::Unknown);
        self.verdicts
            .extend(verdict.map(|verdict| (task.tgid, task.comm.clone(), verdict)));
    }
}

#[cfg(test)]
mod tests;
