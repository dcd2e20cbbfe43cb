//! What was open before anybody looked, of processes that have little room left: of these fds nobody knows the age, and
//! a block without them would read as if there were none. Pure.

use rustc_hash::FxHashMap;

use crate::{
    diagnose::{
        holders::{Holder, groups},
        near_limit,
    },
    engine::{Engine, table::OpenFd},
    ground::task::Task,
};

/// From so many percent of the limit on.
const FULL: u64 = 80;
/// Groups of a process that are told one by one.
const GROUPS: usize = 5;

/// Of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromBefore {
    /// The process.
    pub pid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// Fds in use, of whatever age.
    pub used: Option<u32>,
    /// The soft limit.
    pub soft: u64,
    /// Fds that were open before anybody looked, and still are.
    pub open: u32,
    /// Fds that were, and have been closed since.
    pub closed: u32,
    /// What those that are open lead to.
    pub holders: Vec<Holder>,
}

/// How many fds were open before anybody looked, by table and process; taken down once.
#[derive(Debug, Default)]
pub struct AtStart(Option<FxHashMap<(u64, u32), u32>>);

impl AtStart {
    /// Takes it down, unless that has been done.
    pub fn take_down(&mut self, engine: &dyn Engine) {
        self.0.get_or_insert_with(|| {
            let tables = engine.tables().into_iter();
            let counts = tables.map(|table| {
                let old = engine.fds(table.files, 0).filter(is_from_before);
                let count = u32::try_from(old.count()).unwrap_or(u32::MAX);
                ((table.files, table.tgid), count)
            });
            counts.filter(|(_, count)| *count > 0).collect()
        });
    }

    /// Those of these tasks that are nearly full, and hold such fds; so many at most, those with most of them first.
    #[must_use]
    pub fn full(&self, engine: &dyn Engine, tasks: &[Task], at_most: usize) -> Vec<FromBefore> {
        let full = tasks.iter().filter(|task| {
            let percent = near_limit::percent(task);
            percent.is_some_and(|percent| percent >= FULL)
        });
        let mut all: Vec<_> = full.filter_map(|task| self.of(engine, task)).collect();
        all.sort_by(|one, other| other.open.cmp(&one.open).then(one.pid.cmp(&other.pid)));
        all.truncate(at_most);
        all
    }

    fn of(&self, engine: &dyn Engine, task: &Task) -> Option<FromBefore> {
        let counted = *self.0.as_ref()?.get(&(task.files, task.tgid))?;
        let table = engine.table(task.files)?;
        let entries = || {
            let entries = table.entries.iter();
            entries.filter(|entry| is_from_before(&entry.open))
        };
        let open = u32::try_from(entries().count()).unwrap_or(u32::MAX);
        (open > 0).then(|| FromBefore {
            pid: task.tgid,
            comm: task.comm.clone(),
            used: task.used,
            soft: task.soft,
            open,
            closed: counted.saturating_sub(open),
            holders: groups(&table, entries(), GROUPS),
        })
    }
}

fn is_from_before(open: &OpenFd) -> bool {
    open.since_ns == 0
}
