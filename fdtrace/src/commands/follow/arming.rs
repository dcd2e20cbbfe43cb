//! In which tables the stacks of those who open fds are taken: where somebody may want to know soon.

use std::collections::{BTreeMap, BTreeSet};

use fdtrace_common::stack::STACK_TABLES_MAX;

use super::{CENSUS, FULL, GROWN, growing};
use crate::{
    engine::Engine,
    probe::{load::Stacks, shared::Openers},
    timers::Timer,
};

/// A table that was chosen once stays so for this long.
const HOLD: Timer = Timer::seconds(60);

/// The tables that have been chosen.
#[derive(Debug, Default)]
pub(super) struct Arming {
    stacks: Stacks,
    /// With its generation, and when it was worth it last.
    chosen: BTreeMap<u64, (u64, u64)>,
    tables: BTreeSet<u64>,
}

impl Arming {
    pub(super) fn new(stacks: Stacks) -> Self {
        Self {
            stacks,
            ..Self::default()
        }
    }

    /// Whose stacks are taken.
    pub(super) fn openers(&self) -> Openers {
        match self.stacks {
            Stacks::Always => Openers::All,
            Stacks::Named => Openers::named(&self.tables),
            Stacks::Never => Openers::Nobody,
        }
    }

    /// The tables that are chosen, by the addresses of their `files_struct`.
    pub(super) fn tables(&self) -> &BTreeSet<u64> {
        &self.tables
    }

    /// Chooses anew: the tables that were not chosen before; `None` where nothing changes.
    pub(super) fn choose(&mut self, engine: &dyn Engine, now_ns: u64) -> Option<Vec<u64>> {
        if self.stacks != Stacks::Named {
            return None;
        }
        let mut full: Vec<(u64, u64)> = engine
            .limits()
            .filter_map(|task| {
                let part = u64::from(task.used?) * 100 / task.soft.max(1);
                (part >= FULL).then_some((part, task.files))
            })
            .collect();
        full.sort_unstable_by(|one, other| other.cmp(one));
        let since = now_ns.saturating_sub(CENSUS.ns());
        let growing = growing(engine, since, GROWN);
        let worthy = full.into_iter().map(|(_, files)| files).chain(growing);
        let generation = |files: u64| engine.head(files).map(|table| table.generation);
        let worthy = worthy.filter_map(|files| Some((files, generation(files)?)));
        for (files, generation) in worthy.take(STACK_TABLES_MAX as usize) {
            self.chosen.insert(files, (generation, now_ns));
        }
        self.chosen.retain(|files, (then, last_ns)| {
            generation(*files) == Some(*then) && now_ns.saturating_sub(*last_ns) <= HOLD.ns()
        });
        let newest = |(files, (_, last_ns)): (&u64, &(u64, u64))| (*last_ns, *files);
        let mut tables: Vec<(u64, u64)> = self.chosen.iter().map(newest).collect();
        tables.sort_unstable_by(|one, other| other.cmp(one));
        let tables = tables.into_iter().take(STACK_TABLES_MAX as usize);
        let tables: BTreeSet<u64> = tables.map(|(_, files)| files).collect();
        if tables == self.tables {
            return None;
        }
        let new = tables.difference(&self.tables).copied().collect();
        self.tables = tables;
        Some(new)
    }
}

#[cfg(test)]
mod tests;
