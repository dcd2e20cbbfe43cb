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
    holders::{Holder, Opened, OpenerOf, crowds},
    verdict::{self, Verdict},
};
use crate::model::{Model, held::Ends, names::Names, sockets::Sockets, tables::slot::Slot};
use crate::stream::decode::Task;

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
    pub fn begin(&mut self, model: &Model) {
        self.at_start.take_down(model);
    }

    /// Is it old enough, and opened by the process itself while somebody looked?
    #[must_use]
    pub fn counts(&self, slot: &Slot, now_ns: u64) -> bool {
        slot.since_ns > 0
            && !slot.is_inherited
            && slot.since_ns.saturating_add(self.older_ns) <= now_ns
    }

    /// What is outstanding in the tables of these tasks.
    #[must_use]
    pub fn look(&self, model: &Model, tasks: &[Task], now_ns: u64) -> Found {
        let mut found = Found {
            now_ns,
            ..Found::default()
        };
        for task in tasks {
            let Some(table) = model.tables.table(task.files) else {
                continue;
            };
            let opener_of = |fd: u32, slot: &Slot| model.openers.get(task.files, fd, slot.file);
            let old = || table.slots().filter(|(_, slot)| self.counts(slot, now_ns));
            let ends = model.sockets.ends(old());
            found.add(task, old, model.tables.names(), &ends, &opener_of, self.top);
        }
        found.shorten(self.top);
        for task in tasks {
            if found.groups.iter().any(|group| group.pid == task.tgid) {
                found.judge(task, model);
            }
        }
        found.before = self.at_start.full(model, tasks, self.top);
        found
    }

    /// The same of slots that are gone already: those of a process that has ended.
    #[must_use]
    pub fn of_ended(
        &self,
        task: &Task,
        slots: &[(u32, Slot)],
        names: &Names,
        sockets: &Sockets,
        opener_of: OpenerOf<'_>,
        now_ns: u64,
    ) -> Found {
        let mut found = Found {
            now_ns,
            ..Found::default()
        };
        let slots = || slots.iter().copied();
        let ends = sockets.ends(slots());
        found.add(task, slots, names, &ends, opener_of, self.top);
        found.shorten(self.top);
        found
    }
}

impl Found {
    fn add<I: Iterator<Item = (u32, Slot)>>(
        &mut self,
        task: &Task,
        slots: impl Fn() -> I,
        names: &Names,
        ends: &Ends,
        opener_of: OpenerOf<'_>,
        top: usize,
    ) {
        let mut fds = 0;
        for has_opener in [false, true] {
            let slots = slots().filter(|(fd, slot)| opener_of(*fd, slot).is_some() == has_opener);
            let crowds = crowds(slots, names, ends, opener_of, top);
            for (holder, opened) in crowds {
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

    fn judge(&mut self, task: &Task, model: &Model) {
        let diagnosis = Diagnosis::of(Patient::of_task(task), model, self.now_ns);
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict);
        let verdict = verdict.filter(|verdict| verdict.kind != verdict::Kind::Unknown);
        self.verdicts
            .extend(verdict.map(|verdict| (task.tgid, task.comm.clone(), verdict)));
    }
}

#[cfg(test)]
mod tests;
