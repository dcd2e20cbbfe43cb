//! Tables that near their limits: told once when they pass a mark, and again only after they have been
//! well below it. Pure.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ground::task::Task;

/// So many percent of the limit below the mark, a table may be told of again.
const HYSTERESIS: u64 = 10;
/// Tables told of in one look: the fullest first, the others in the next looks.
const AT_ONCE: usize = 16;
/// Tables remembered.
const REMEMBERED: usize = 65_536;

/// Numbers taken in percent of the limit, rounded down; `None` where one of them is not known.
#[must_use]
pub fn percent(task: &Task) -> Option<u64> {
    let used = u64::from(task.used?);
    Some(
        used.saturating_mul(100)
            .checked_div(task.soft)
            .unwrap_or(100),
    )
}

/// Which tables are past the mark, and have been told of.
#[derive(Debug)]
pub struct NearLimit {
    mark: u64,
    /// By process, and the table: which of its threads the kernel shows it with can change.
    told: FxHashMap<(u32, u64), u64>,
    /// Tables that were full at the last look: of most of them an exhaustion is told a moment later, and
    /// a warning would come too late.
    full: FxHashSet<(u32, u64)>,
    look: u64,
}

impl NearLimit {
    /// Nothing told yet. `mark`: percent of the soft limit; from 100 on nothing is told.
    #[must_use]
    pub fn new(mark: u8) -> Self {
        Self {
            mark: u64::from(mark),
            told: FxHashMap::default(),
            full: FxHashSet::default(),
            look: 0,
        }
    }

    /// A look at all tables: those to tell of, the fullest first. They count as told once
    /// [`NearLimit::tell`] has been asked.
    pub fn look<'a>(&mut self, tasks: impl Iterator<Item = &'a Task>) -> Vec<Task> {
        if self.mark >= 100 {
            return Vec::new();
        }
        self.look += 1;
        let mut past: Vec<(u64, &Task)> = Vec::new();
        let full_before = std::mem::take(&mut self.full);
        for task in tasks {
            let key = (task.tgid, task.files);
            match percent(task) {
                Some(percent) if percent >= self.mark => match self.told.get_mut(&key) {
                    Some(look) => *look = self.look,
                    None if percent >= 100 && !full_before.contains(&key) => {
                        self.full.insert(key);
                    }
                    None => past.push((percent, task)),
                },
                Some(percent) if percent.saturating_add(HYSTERESIS) > self.mark => {
                    if let Some(look) = self.told.get_mut(&key) {
                        *look = self.look;
                    }
                }
                _ => {}
            }
        }
        // Those that were not seen past the mark, or near it, are well below it, or gone.
        let look = self.look;
        self.told.retain(|_, seen| *seen == look);
        past.sort_unstable_by(|(one, task), (other, other_task)| {
            other.cmp(one).then(task.tid.cmp(&other_task.tid))
        });
        past.into_iter().map(|(_, task)| task.clone()).collect()
    }

    /// Which of these are told now; the others come again with the next look.
    pub fn tell(&mut self, mut wanted: Vec<Task>) -> Vec<Task> {
        let room = REMEMBERED.saturating_sub(self.told.len());
        wanted.truncate(AT_ONCE.min(room));
        let look = self.look;
        self.told
            .extend(wanted.iter().map(|task| ((task.tgid, task.files), look)));
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u32; 0] = [];

    fn task(tid: u32, used: u32, soft: u64) -> Task {
        Task {
            files: u64::from(tid),
            tgid: tid,
            tid,
            soft,
            hard: soft,
            used: Some(used),
            comm: b"x".to_vec(),
        }
    }

    fn told(near: &mut NearLimit, tasks: &[Task]) -> Vec<u32> {
        let past = near.look(tasks.iter());
        near.tell(past).into_iter().map(|task| task.tid).collect()
    }

    #[test]
    fn a_crossing_is_told_once() {
        let mut near = NearLimit::new(80);
        assert_eq!(told(&mut near, &[task(1, 79, 100)]), NOBODY);
        assert_eq!(told(&mut near, &[task(1, 80, 100)]), [1]);
        for used in [85, 79, 80, 71, 99, 100] {
            assert_eq!(told(&mut near, &[task(1, used, 100)]), NOBODY, "{used}");
        }
        assert_eq!(told(&mut near, &[task(1, 70, 100)]), NOBODY);
        assert_eq!(
            told(&mut near, &[task(1, 90, 100)]),
            [1],
            "it was well below"
        );
    }

    #[test]
    fn another_process_of_that_number_is_another_one() {
        let mut near = NearLimit::new(80);
        assert_eq!(told(&mut near, &[task(1, 90, 100)]), [1]);
        assert_eq!(told(&mut near, &[]), NOBODY);
        assert_eq!(told(&mut near, &[task(1, 90, 100)]), [1]);
    }

    #[test]
    fn another_thread_with_the_same_table_is_no_other_table() {
        let mut near = NearLimit::new(80);
        let seen_with = |tid| Task {
            files: 9,
            tgid: 1,
            ..task(tid, 90, 100)
        };
        assert_eq!(told(&mut near, &[seen_with(2)]), [2]);
        assert_eq!(told(&mut near, &[seen_with(3)]), NOBODY, "2 has ended");
    }

    #[test]
    fn the_fullest_come_first_and_the_others_a_look_later() {
        let mut near = NearLimit::new(80);
        let tasks: Vec<_> = (1..=40).map(|tid| task(tid, 80 + tid % 20, 100)).collect();
        let mut all = told(&mut near, &tasks);
        assert_eq!((all.len(), all[0]), (AT_ONCE, 19));
        all.extend(told(&mut near, &tasks));
        all.extend(told(&mut near, &tasks));
        assert_eq!(told(&mut near, &tasks), NOBODY);
        all.sort_unstable();
        assert_eq!(all, (1..=40).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_not_asked_for_takes_no_room() {
        let mut near = NearLimit::new(80);
        let past = near.look([task(1, 90, 100)].iter());
        assert_eq!(past.len(), 1);
        assert!(near.tell(Vec::new()).is_empty());
        assert_eq!(near.told.len(), 0);
    }

    #[test]
    fn a_mark_of_a_hundred_turns_it_off() {
        let mut near = NearLimit::new(100);
        assert_eq!(told(&mut near, &[task(1, 100, 100)]), NOBODY);
        assert_eq!(told(&mut near, &[task(1, 100, 100)]), NOBODY);
    }

    #[test]
    fn a_full_table_is_told_if_nothing_comes_of_it_until_the_next_look() {
        let mut near = NearLimit::new(80);
        let tasks = [task(1, 100, 100), task(2, 3, 0)];
        assert_eq!(told(&mut near, &tasks), NOBODY);
        assert_eq!(told(&mut near, &tasks), [1, 2]);
        assert_eq!(told(&mut near, &tasks), NOBODY);
    }
}
