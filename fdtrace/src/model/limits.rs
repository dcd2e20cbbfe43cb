//! The limits that processes run under, and how full the kernel says their tables are.

use rustc_hash::FxHashMap;

use crate::stream::decode::Task;

/// What the kernel has said last of each table.
#[derive(Debug, Default)]
pub struct Limits {
    by_thread: FxHashMap<u32, Task>,
}

impl Limits {
    /// All tasks as they are now: one for each process, and one for each thread with a table of its own.
    pub fn look(&mut self, tasks: impl IntoIterator<Item = Task>) {
        self.by_thread.clear();
        let used = tasks.into_iter().filter(|task| task.used != Some(0));
        self.by_thread.extend(used.map(|task| (task.tid, task)));
    }

    /// All tasks that have a table with something in it.
    pub fn all(&self) -> impl Iterator<Item = &Task> {
        self.by_thread.values()
    }

    /// What is known of a process.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Option<&Task> {
        self.by_thread.get(&tgid)
    }
}
