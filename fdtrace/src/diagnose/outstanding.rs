//! Fds that have been open for longer than they should, and how many more there are each time. Pure.

use rustc_hash::FxHashMap;

use super::{
    diagnosis::{Diagnosis, Patient},
    holders::{Holder, groups},
    verdict::{self, Verdict},
};
use crate::model::{Model, held::Ends, kind::Kind, tables::slot::Slot};
use crate::stream::decode::Task;

/// Groups of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The process.
    pub pid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// What they are.
    pub holder: Holder,
    /// How many more than in the block before; `None` in the first one.
    pub grown_by: Option<i64>,
}

/// What was outstanding at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// The moment, nanoseconds since boot.
    pub now_ns: u64,
    /// The largest groups, the largest first.
    pub rows: Vec<Row>,
    /// Fds outstanding, those in no row included.
    pub fds: u64,
    /// Processes that have some.
    pub processes: usize,
    /// Leak or load, for each process with a row; where there is too little to tell, it is left out.
    pub verdicts: Vec<(u32, Vec<u8>, Verdict)>,
}

/// Looks at the tables, block by block.
#[derive(Debug)]
pub struct Outstanding {
    older_ns: u64,
    top: usize,
    before: Option<FxHashMap<Key, u32>>,
}

type Key = (u32, Kind, Option<Vec<u8>>);

impl Outstanding {
    /// Fds count from this age on; so many groups are told.
    #[must_use]
    pub fn new(older_ns: u64, top: usize) -> Self {
        Self {
            older_ns,
            top,
            before: None,
        }
    }

    /// Is it old enough, and opened by the process itself while somebody looked?
    #[must_use]
    pub fn counts(&self, slot: &Slot, now_ns: u64) -> bool {
        slot.since_ns > 0
            && !slot.is_inherited
            && slot.since_ns.saturating_add(self.older_ns) <= now_ns
    }

    /// What is outstanding in the tables of these tasks. `ends` knows where fds of a table lead to.
    pub fn look(
        &mut self,
        model: &Model,
        tasks: &[Task],
        ends: &FxHashMap<u64, Ends>,
        now_ns: u64,
    ) -> Block {
        let none = Ends::default();
        let mut block = Block {
            now_ns,
            ..Block::default()
        };
        for task in tasks {
            let Some(table) = model.tables.table(task.files) else {
                continue;
            };
            let old = table.slots().filter(|(_, slot)| self.counts(slot, now_ns));
            let ends = ends.get(&task.files).unwrap_or(&none);
            let opener_of = |fd: u32, slot: &Slot| model.openers.get(task.files, fd, slot.file);
            let holders = groups(old, model.tables.names(), ends, &opener_of, self.top);
            let fds: u64 = holders.iter().map(|holder| u64::from(holder.count)).sum();
            block.fds += fds;
            block.processes += usize::from(fds > 0);
            block.add(task.tgid, &task.comm, holders);
            // No more is kept than is shown.
            if block.rows.len() > 4 * self.top {
                block.shorten(self.top);
            }
        }
        block.shorten(self.top);
        self.compare(&mut block);
        for task in tasks {
            if block.rows.iter().any(|row| row.pid == task.tgid) {
                block.judge(task, model);
            }
        }
        block
    }

    /// The same of slots that are gone already: those of a process that has ended.
    pub fn of_ended(&mut self, task: &Task, holders: Vec<Holder>, now_ns: u64) -> Block {
        let fds = holders.iter().map(|holder| u64::from(holder.count)).sum();
        let mut block = Block {
            now_ns,
            fds,
            processes: usize::from(fds > 0),
            ..Block::default()
        };
        block.add(task.tgid, &task.comm, holders);
        block.shorten(self.top);
        block
    }

    fn compare(&mut self, block: &mut Block) {
        let key = |row: &Row| (row.pid, row.holder.kind, row.holder.target.clone());
        if let Some(before) = &self.before {
            for row in &mut block.rows {
                let known = before.get(&key(row)).copied().unwrap_or(0);
                row.grown_by = Some(i64::from(row.holder.count) - i64::from(known));
            }
        }
        let rows = block.rows.iter();
        self.before = Some(rows.map(|row| (key(row), row.holder.count)).collect());
    }
}

impl Block {
    fn add(&mut self, pid: u32, comm: &[u8], holders: Vec<Holder>) {
        self.rows.extend(holders.into_iter().map(|holder| Row {
            pid,
            comm: comm.to_vec(),
            holder,
            grown_by: None,
        }));
    }

    fn shorten(&mut self, top: usize) {
        self.rows.sort_by(|one, other| {
            let by_count = other.holder.count.cmp(&one.holder.count);
            by_count.then(one.pid.cmp(&other.pid))
        });
        self.rows.truncate(top);
    }

    fn judge(&mut self, task: &Task, model: &Model) {
        let patient = Patient {
            files: task.files,
            tid: task.tid,
            tgid: task.tgid,
            soft: task.soft,
            cause: None,
            used: task.used,
        };
        let diagnosis = Diagnosis::of(patient, model, self.now_ns);
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict);
        let verdict = verdict.filter(|verdict| verdict.kind != verdict::Kind::Unknown);
        self.verdicts
            .extend(verdict.map(|verdict| (task.tgid, task.comm.clone(), verdict)));
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::{
        change::{INHERITED, OpenRecord, ThreadRecord},
        record::{RECORD_BOUND, RECORD_OPENED},
    };
    use zerocopy::FromZeros;

    use super::*;
    use crate::stream::record::Changed;

    fn task(tgid: u32) -> Task {
        Task {
            files: u64::from(tgid),
            tgid,
            tid: tgid,
            soft: 100,
            hard: 100,
            used: None,
            comm: b"x".to_vec(),
        }
    }

    fn open(model: &mut Model, tgid: u32, fd: u32, name: &str, since_ns: u64, flags: u32) {
        let bound = ThreadRecord {
            kind: RECORD_BOUND,
            files: u64::from(tgid),
            tgid,
            tid: tgid,
            ..ThreadRecord::new_zeroed()
        };
        model.tables.apply(Changed::Bound(&bound), &mut ());
        let mut record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: u64::from(tgid),
            file: u64::from(fd) + 1,
            time_ns: since_ns,
            mode: 0o100_644,
            flags,
            ..OpenRecord::new_zeroed()
        };
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        model.tables.apply(Changed::Opened(&record), &mut ());
    }

    fn told(block: &Block) -> Vec<(u32, &[u8], u32, Option<i64>)> {
        let told = block.rows.iter().map(|row| {
            let target = row.holder.target.as_deref().unwrap_or_default();
            (row.pid, target, row.holder.count, row.grown_by)
        });
        told.collect()
    }

    #[test]
    fn what_is_old_and_its_own_is_outstanding_and_its_growth_is_told() {
        let mut model = Model::default();
        open(&mut model, 5, 0, "before", 0, 0);
        open(&mut model, 5, 1, "given", 10, INHERITED);
        open(&mut model, 5, 2, "old", 10, 0);
        open(&mut model, 5, 3, "young", 70, 0);
        open(&mut model, 6, 0, "other", 20, 0);
        let (ends, tasks) = (FxHashMap::default(), [task(5), task(6)]);
        let mut outstanding = Outstanding::new(50, 10);
        let block = outstanding.look(&model, &tasks, &ends, 100);
        assert_eq!(
            told(&block),
            [(5, &b"old"[..], 1, None), (6, b"other", 1, None)]
        );
        assert_eq!((block.fds, block.processes), (2, 2));
        open(&mut model, 5, 4, "old", 80, 0);
        let block = outstanding.look(&model, &tasks, &ends, 200);
        assert_eq!(
            told(&block),
            [
                (5, &b"old"[..], 2, Some(1)),
                (5, b"young", 1, Some(1)),
                (6, b"other", 1, Some(0))
            ]
        );
    }

    #[test]
    fn the_largest_groups_are_told_and_all_are_counted() {
        let mut model = Model::default();
        for tgid in 1..=50 {
            for fd in 0..tgid {
                open(&mut model, tgid, fd, "a", 1, 0);
            }
        }
        let tasks: Vec<_> = (1..=50).map(task).collect();
        let mut outstanding = Outstanding::new(0, 3);
        let block = outstanding.look(&model, &tasks, &FxHashMap::default(), 100);
        let pids: Vec<_> = block.rows.iter().map(|row| row.pid).collect();
        assert_eq!(pids, [50, 49, 48]);
        assert_eq!((block.fds, block.processes), (50 * 51 / 2, 50));
    }
}
