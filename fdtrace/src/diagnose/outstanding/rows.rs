//! From groups of outstanding fds to rows, one for each code path that has opened some.

use std::{collections::hash_map::Entry, sync::Arc};

use rustc_hash::FxHashMap;

use super::{Found, Group, kept};
use crate::{
    diagnose::{
        holders::{Holder, Opened, part_of},
        verdict::Verdict,
    },
    enrich::stacks::{CodePath, Stack},
    model::{kind::Kind, openers::Sequence},
};

/// Fds of one process that lead to the same, and that one code path has opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The process.
    pub pid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// What they are.
    pub holder: Holder,
    /// The code path; `None`: not known.
    pub stack: Option<Arc<Stack>>,
    /// How many more than in the block before; `None` in the first one, and where that had too many rows
    /// to remember this one.
    pub grown_by: Option<i64>,
}

/// What was outstanding at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// The moment, nanoseconds since boot.
    pub now_ns: u64,
    /// The largest ones, the largest first.
    pub rows: Vec<Row>,
    /// Fds outstanding, those in no row included.
    pub fds: u64,
    /// Processes that have some.
    pub processes: usize,
    /// Leak or load, for each process with a row; where there is too little to tell, it is left out.
    pub verdicts: Vec<(u32, Vec<u8>, Verdict)>,
}

/// What a row is recognised by in the next block.
type Key = (u32, Kind, Option<Vec<u8>>, Option<CodePath>);

/// Rows that are remembered for the next block.
#[derive(Debug)]
struct Before {
    counts: FxHashMap<Key, u32>,
    /// There were more.
    is_cut: bool,
}

/// Takes groups apart, block by block.
#[derive(Debug)]
pub struct Rows {
    top: usize,
    before: Option<Before>,
}

impl Rows {
    /// So many rows are shown.
    #[must_use]
    pub fn new(top: usize) -> Self {
        Self { top, before: None }
    }

    /// The block; `stack_of` knows what has been read of stacks.
    pub fn block(
        &mut self,
        found: Found,
        mut stack_of: impl FnMut(Sequence) -> Option<Arc<Stack>>,
    ) -> Block {
        let mut rows = Vec::new();
        let mut is_cut = found.is_cut;
        let mut unknown = FxHashMap::default();
        let mut paths = Paths::default();
        for group in found.groups {
            for (path, holder) in parts(&group, &mut paths, &mut stack_of) {
                let row = Row {
                    pid: group.pid,
                    comm: group.comm.clone(),
                    holder,
                    stack: path.map(|CodePath(stack)| stack),
                    grown_by: None,
                };
                if row.stack.is_some() {
                    rows.push(row);
                    // No more is kept than of groups.
                    if rows.len() > 2 * kept(self.top) {
                        is_cut |= shorten(&mut rows, kept(self.top));
                    }
                    continue;
                }
                // Those of which a stack was taken and is not known any more belong to those without.
                match unknown.entry((row.pid, row.holder.kind, row.holder.target.clone())) {
                    Entry::Vacant(vacant) => drop(vacant.insert(row)),
                    Entry::Occupied(mut known) => known.get_mut().holder.join(&row.holder),
                }
            }
        }
        rows.extend(unknown.into_values());
        is_cut |= shorten(&mut rows, kept(self.top));
        self.compare(&mut rows, is_cut);
        rows.truncate(self.top);
        let mut verdicts = found.verdicts;
        verdicts.retain(|(pid, ..)| rows.iter().any(|row| row.pid == *pid));
        Block {
            now_ns: found.now_ns,
            rows,
            fds: found.fds,
            processes: found.processes,
            verdicts,
        }
    }

    fn compare(&mut self, rows: &mut [Row], is_cut: bool) {
        if let Some(before) = &self.before {
            for row in rows.iter_mut() {
                let known = before.counts.get(&key(row)).copied();
                let known = known.or((!before.is_cut).then_some(0));
                row.grown_by = known.map(|known| i64::from(row.holder.count) - i64::from(known));
            }
        }
        self.before = Some(Before {
            counts: rows
                .iter()
                .map(|row| (key(row), row.holder.count))
                .collect(),
            is_cut,
        });
    }
}

/// Code paths that have been seen in this block. What the same copy of a stack is of is looked at once.
#[derive(Default)]
struct Paths {
    all: Vec<CodePath>,
    known: FxHashMap<CodePath, usize>,
    /// By address; the stack is kept so that no other one gets it.
    by_copy: FxHashMap<*const Stack, (usize, Arc<Stack>)>,
}

impl Paths {
    fn number(&mut self, stack: Arc<Stack>) -> usize {
        if let Some((number, _)) = self.by_copy.get(&Arc::as_ptr(&stack)) {
            return *number;
        }
        let path = CodePath(Arc::clone(&stack));
        let next = self.all.len();
        let number = *self.known.entry(path.clone()).or_insert(next);
        if number == next {
            self.all.push(path);
        }
        self.by_copy.insert(Arc::as_ptr(&stack), (number, stack));
        number
    }
}

/// A group by code path; the path is `None` where it is not known.
fn parts(
    group: &Group,
    paths: &mut Paths,
    stack_of: &mut impl FnMut(Sequence) -> Option<Arc<Stack>>,
) -> Vec<(Option<CodePath>, Holder)> {
    if group.opened.is_empty() {
        return vec![(None, group.holder.clone())];
    }
    let mut by_path: FxHashMap<Option<usize>, Vec<Opened>> = FxHashMap::default();
    for opened in &group.opened {
        let number = stack_of(opened.sequence).map(|stack| paths.number(stack));
        by_path.entry(number).or_default().push(*opened);
    }
    let parts = by_path.into_iter().map(|(number, opened)| {
        let path = number.and_then(|number| paths.all.get(number)).cloned();
        (path, part_of(&group.holder, &opened))
    });
    parts.collect()
}

fn key(row: &Row) -> Key {
    let path = row.stack.clone().map(CodePath);
    (row.pid, row.holder.kind, row.holder.target.clone(), path)
}

/// Leaves the largest, in the same order each time; were there more?
fn shorten(rows: &mut Vec<Row>, at_most: usize) -> bool {
    rows.sort_by(|one, other| {
        let by_count = other.holder.count.cmp(&one.holder.count);
        let by_process = || one.pid.cmp(&other.pid);
        let by_kind = || one.holder.kind.cmp(&other.holder.kind);
        let by_target = || one.holder.target.cmp(&other.holder.target);
        let by_path = || one.stack.cmp(&other.stack);
        by_count
            .then_with(by_process)
            .then_with(by_kind)
            .then_with(by_target)
            .then_with(by_path)
    });
    let is_cut = rows.len() > at_most;
    rows.truncate(at_most);
    is_cut
}

#[cfg(test)]
mod tests;
