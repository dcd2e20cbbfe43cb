//! The limits that processes run under, and how full the kernel says their tables are.

use rustc_hash::FxHashMap;

use super::tables::Tables;
use crate::ground::task::Task;

/// Tables are worth a note in a recording from this part of their limits on: a half.
const NOTED: u64 = 2;
/// Tasks noted at once.
const NOTED_MAX: usize = 1_024;

/// What the kernel has said last of each table.
#[derive(Debug, Default)]
pub struct Limits {
    by_thread: FxHashMap<u32, Task>,
    noted: Vec<Task>,
}

impl Limits {
    /// All tasks as they are now: one for each process, and one for each thread with a table of its own.
    /// Those whose tables are half full or fuller, if there is anything new about them, for whoever keeps a
    /// recording: taken in again in place of all, they give the same.
    pub fn look(&mut self, tasks: Vec<Task>) -> Option<Vec<Task>> {
        let is_noted = |task: &&Task| {
            let used = task.used.map_or(0, u64::from);
            used > 0 && used.saturating_mul(NOTED) >= task.soft
        };
        let mut noted: Vec<_> = tasks
            .iter()
            .filter(is_noted)
            .take(NOTED_MAX)
            .cloned()
            .collect();
        noted.sort_unstable_by_key(|task| task.tid);
        self.by_thread.clear();
        let used = tasks.into_iter().filter(|task| task.used != Some(0));
        self.by_thread.extend(used.map(|task| (task.tid, task)));
        let is_news = noted != self.noted;
        self.noted.clone_from(&noted);
        is_news.then_some(noted)
    }

    /// Tables that have grown since the last look, which may be some seconds ago where looking takes long: as
    /// full as they have been followed to be.
    pub fn follow(&mut self, tables: &Tables) {
        for task in self.by_thread.values_mut() {
            let thread = tables.thread(task.tid);
            let is_same = thread.is_some_and(|thread| thread.files == task.files);
            let table = tables.table(task.files).filter(|_| is_same);
            if let Some(table) = table {
                task.used = task.used.max(Some(table.open));
            }
        }
    }

    /// All tasks that have a table with something in it.
    pub fn all(&self) -> impl Iterator<Item = &Task> {
        self.by_thread.values()
    }

    /// What is known of a process: by its leader, or, where that has exited, by a thread that lives on.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Option<&Task> {
        let leader = self.by_thread.get(&tgid);
        leader.or_else(|| self.all().find(|task| task.tgid == tgid))
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::{
        change::{OpenRecord, ThreadRecord},
        record::{RECORD_BOUND, RECORD_OPENED},
    };
    use zerocopy::FromZeros;

    use super::*;
    use crate::stream::record::Changed;

    fn task(tid: u32, used: u32) -> Task {
        Task {
            files: u64::from(tid),
            tgid: tid,
            tid,
            soft: 100,
            hard: 200,
            used: Some(used),
            comm: b"x".to_vec(),
        }
    }

    #[test]
    fn what_is_worth_a_note_is_noted_when_it_changes() {
        let mut limits = Limits::default();
        assert_eq!(limits.look(vec![task(1, 49), task(2, 0)]), None);
        assert_eq!(limits.all().count(), 1);
        assert_eq!(limits.look(vec![task(1, 50)]), Some(vec![task(1, 50)]));
        assert_eq!(limits.look(vec![task(1, 50), task(3, 7)]), None);
        assert_eq!(limits.look(vec![task(1, 51)]), Some(vec![task(1, 51)]));
        assert_eq!(limits.of(1).unwrap().used, Some(51));
        assert_eq!(limits.of(3), None);
        assert_eq!(
            limits.look(vec![task(1, 5)]),
            Some(vec![]),
            "nothing is news, too"
        );
    }

    #[test]
    fn a_process_whose_leader_has_exited_is_known_by_its_threads() {
        let thread = Task {
            tgid: 1,
            ..task(2, 30)
        };
        let mut limits = Limits::default();
        limits.look(vec![thread.clone(), task(5, 1)]);
        assert_eq!(limits.of(1), Some(&thread));
    }

    #[test]
    fn between_looks_a_table_is_as_full_as_it_is_followed_to_be() {
        let mut tables = Tables::default();
        tables.apply(
            Changed::Bound(&ThreadRecord {
                kind: RECORD_BOUND,
                files: 1,
                tgid: 1,
                tid: 1,
                ..ThreadRecord::new_zeroed()
            }),
            &mut (),
        );
        for fd in 0..50 {
            let record = OpenRecord {
                kind: RECORD_OPENED,
                fd,
                files: 1,
                file: u64::from(fd) + 1,
                ..OpenRecord::new_zeroed()
            };
            tables.apply(Changed::Opened(&record), &mut ());
        }
        let mut limits = Limits::default();
        limits.look(vec![task(1, 30), task(2, 30)]);
        limits.follow(&tables);
        let used = |tid| limits.of(tid).and_then(|task| task.used);
        assert_eq!((used(1), used(2)), (Some(50), Some(30)));
    }
}
