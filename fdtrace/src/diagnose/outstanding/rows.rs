//! From groups of outstanding fds to rows, one for each code path that has opened some.

use std::{collections::hash_map::Entry, sync::Arc};

use rustc_hash::FxHashMap;

use super::{Found, FromBefore, Group, kept};
use crate::{
    diagnose::{
        holders::{Holder, Opened, part_of},
        verdict::Verdict,
    },
    engine::opener::Sequence,
    enrich::stacks::{CodePath, Detail, Stack},
    ground::kind::Kind,
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
    /// Sockets among them of which nobody knows yet where they lead to: the same code path has opened them as
    /// the others.
    pub endless: u32,
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
    /// What nearly full processes hold from before anybody looked.
    pub before: Vec<FromBefore>,
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
    detail: Detail,
    before: Option<Before>,
}

impl Rows {
    /// So many rows are shown, told apart by so much of their stacks.
    #[must_use]
    pub fn new(top: usize, detail: Detail) -> Self {
        Self {
            top,
            detail,
            before: None,
        }
    }

    /// The block; `stack_of` knows what has been read of stacks.
    pub fn block(
        &mut self,
        found: &Found,
        mut stack_of: impl FnMut(Sequence) -> Option<Arc<Stack>>,
    ) -> Block {
        let mut rows = Vec::new();
        let mut is_cut = found.is_cut;
        let mut unknown = FxHashMap::default();
        let mut paths = Paths::new(self.detail);
        for group in &found.groups {
            for (path, holder) in parts(group, &mut paths, &mut stack_of) {
                let row = Row {
                    pid: group.pid,
                    comm: group.comm.clone(),
                    holder,
                    endless: 0,
                    stack: path.map(|path| path.stack),
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
        self.join_endless(&mut rows);
        is_cut |= shorten(&mut rows, kept(self.top));
        self.compare(&mut rows, is_cut);
        rows.truncate(self.top);
        let mut verdicts = found.verdicts.clone();
        verdicts.retain(|(pid, ..)| rows.iter().any(|row| row.pid == *pid));
        Block {
            now_ns: found.now_ns,
            rows,
            fds: found.fds,
            processes: found.processes,
            verdicts,
            before: found.before.clone(),
        }
    }

    /// Sockets that have just been opened lead nowhere yet, as far as anybody knows: they belong to the others that
    /// the same code path has opened, where all of these lead to the same.
    fn join_endless(&self, rows: &mut Vec<Row>) {
        let mut ends: FxHashMap<Key, Option<usize>> = FxHashMap::default();
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| has_end(row)) {
            let end = ends.entry(endless_key(row, self.detail));
            end.and_modify(|end| *end = None).or_insert(Some(index));
        }
        let mut joined = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            if is_endless(row)
                && let Some(Some(to)) = ends.get(&endless_key(row, self.detail))
            {
                joined.push((index, *to));
            }
        }
        for (index, to) in &joined {
            let endless = rows[*index].holder.clone();
            let row = &mut rows[*to];
            row.endless += endless.count;
            row.holder.join(&endless);
        }
        // The last ones first: the others keep their places.
        for (index, _) in joined.into_iter().rev() {
            rows.swap_remove(index);
        }
    }

    fn compare(&mut self, rows: &mut [Row], is_cut: bool) {
        if let Some(before) = &self.before {
            for row in rows.iter_mut() {
                let known = before.counts.get(&key(row, self.detail)).copied();
                // What led nowhere in the block before may have an end by now.
                let known = known.or_else(|| {
                    let endless = has_end(row).then(|| endless_key(row, self.detail))?;
                    before.counts.get(&endless).copied()
                });
                let known = known.or((!before.is_cut).then_some(0));
                row.grown_by = known.map(|known| i64::from(row.holder.count) - i64::from(known));
            }
        }
        self.before = Some(Before {
            counts: rows
                .iter()
                .map(|row| (key(row, self.detail), row.holder.count))
                .collect(),
            is_cut,
        });
    }
}

/// Code paths that have been seen in this block. What the same copy of a stack is of is looked at once.
struct Paths {
    detail: Detail,
    all: Vec<CodePath>,
    known: FxHashMap<CodePath, usize>,
    /// By address; the stack is kept so that no other one gets it.
    by_copy: FxHashMap<*const Stack, (usize, Arc<Stack>)>,
}

impl Paths {
    fn new(detail: Detail) -> Self {
        Self {
            detail,
            all: Vec::new(),
            known: FxHashMap::default(),
            by_copy: FxHashMap::default(),
        }
    }

    fn number(&mut self, stack: Arc<Stack>) -> usize {
        if let Some((number, _)) = self.by_copy.get(&Arc::as_ptr(&stack)) {
            return *number;
        }
        let path = CodePath::new(Arc::clone(&stack), self.detail);
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

/// Does it lead to one end of sockets that is known?
fn has_end(row: &Row) -> bool {
    row.holder.kind.has_end() && row.holder.target.is_some()
}

/// Is it of sockets of which nobody knows where they lead to?
fn is_endless(row: &Row) -> bool {
    row.holder.kind.has_end() && row.holder.target.is_none() && row.holder.targets == 1
}

/// The key of the row that the sockets of this one would be in if nobody knew where they lead to.
fn endless_key(row: &Row, detail: Detail) -> Key {
    let (pid, kind, _, path) = key(row, detail);
    (pid, kind, None, path)
}

fn key(row: &Row, detail: Detail) -> Key {
    let stack = row.stack.clone();
    let path = stack.map(|stack| CodePath::new(stack, detail));
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
