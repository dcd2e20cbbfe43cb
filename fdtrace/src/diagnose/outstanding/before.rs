//! What was open before anybody looked, of processes that have little room left: of these fds nobody knows the age, and
//! a block without them would read as if there were none. Pure.

use rustc_hash::FxHashMap;

use crate::{
    diagnose::{
        holders::{Holder, NO_OPENERS, groups},
        near_limit,
    },
    model::{Model, tables::slot::Slot},
    stream::decode::Task,
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
    pub fn take_down(&mut self, model: &Model) {
        self.0.get_or_insert_with(|| {
            let tables = model.tables.all();
            let counts = tables.map(|(files, table)| {
                let old = table.slots().filter(|(_, slot)| is_from_before(slot));
                let count = u32::try_from(old.count()).unwrap_or(u32::MAX);
                ((files, table.tgid), count)
            });
            counts.filter(|(_, count)| *count > 0).collect()
        });
    }

    /// Those of these tasks that are nearly full, and hold such fds; so many at most, those with most of them first.
    #[must_use]
    pub fn full(&self, model: &Model, tasks: &[Task], at_most: usize) -> Vec<FromBefore> {
        let full = tasks.iter().filter(|task| {
            let percent = near_limit::percent(task);
            percent.is_some_and(|percent| percent >= FULL)
        });
        let mut all: Vec<_> = full.filter_map(|task| self.of(model, task)).collect();
        all.sort_by(|one, other| other.open.cmp(&one.open).then(one.pid.cmp(&other.pid)));
        all.truncate(at_most);
        all
    }

    fn of(&self, model: &Model, task: &Task) -> Option<FromBefore> {
        let counted = *self.0.as_ref()?.get(&(task.files, task.tgid))?;
        let table = model.tables.table(task.files)?;
        let slots = || table.slots().filter(|(_, slot)| is_from_before(slot));
        let open = u32::try_from(slots().count()).unwrap_or(u32::MAX);
        let ends = model.sockets.ends(slots());
        let names = model.tables.names();
        (open > 0).then(|| FromBefore {
            pid: task.tgid,
            comm: task.comm.clone(),
            used: task.used,
            soft: task.soft,
            open,
            closed: counted.saturating_sub(open),
            holders: groups(slots(), names, &ends, NO_OPENERS, GROUPS),
        })
    }
}

fn is_from_before(slot: &Slot) -> bool {
    slot.since_ns == 0
}
