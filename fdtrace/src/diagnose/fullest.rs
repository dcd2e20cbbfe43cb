//! Which tables are the nearest to their limit.

use std::collections::HashMap;

use crate::ground::task::Task;

/// One table and the process of it that is nearest to its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// The process.
    pub tgid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Numbers taken.
    pub used: u32,
    /// Its soft `RLIMIT_NOFILE`.
    pub soft: u64,
}

impl Fullness {
    /// Of the limit, rounded down; over 100 where the limit was lowered later.
    #[must_use]
    pub fn percent(&self) -> u64 {
        u64::from(self.used)
            .saturating_mul(100)
            .checked_div(self.soft)
            .unwrap_or(100)
    }
}

/// The `count` fullest tables, the fullest first. A table that several processes share is shown once,
/// with the process of the lowest limit.
#[must_use]
pub fn fullest(tasks: &[Task], count: usize) -> Vec<Fullness> {
    let mut tables: HashMap<u64, Fullness> = HashMap::new();
    for task in tasks {
        // Kernel threads have tables too, and nothing in them.
        let Some(used) = task.used.filter(|used| *used > 0) else {
            continue;
        };
        let seen = Fullness {
            tgid: task.tgid,
            comm: task.comm.clone(),
            used,
            soft: task.soft,
        };
        let table = tables.entry(task.files).or_insert_with(|| seen.clone());
        if (seen.soft, seen.tgid) < (table.soft, table.tgid) {
            *table = seen;
        }
    }
    let mut tables: Vec<_> = tables.into_values().collect();
    tables.sort_by(|one, other| {
        // used/soft compared without division, a limit of 0 being the fullest.
        let one_share = u128::from(one.used) * u128::from(other.soft);
        let other_share = u128::from(other.used) * u128::from(one.soft);
        other_share.cmp(&one_share).then(one.tgid.cmp(&other.tgid))
    });
    tables.truncate(count);
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(files: u64, tgid: u32, used: u32, soft: u64) -> Task {
        Task {
            files,
            tgid,
            tid: tgid,
            soft,
            hard: soft,
            used: Some(used),
            comm: b"x".to_vec(),
        }
    }

    #[test]
    fn the_share_of_the_limit_counts_and_not_the_number() {
        let tasks = [
            task(1, 10, 500, 1024),
            task(2, 20, 60, 64),
            task(3, 30, 5, 1024),
        ];
        let order: Vec<_> = fullest(&tasks, 2)
            .into_iter()
            .map(|table| table.tgid)
            .collect();
        assert_eq!(order, [20, 10]);
    }

    #[test]
    fn a_shared_table_stands_once_with_its_lowest_limit() {
        let tasks = [task(1, 10, 50, 1024), task(1, 11, 50, 64)];
        let tables = fullest(&tasks, 5);
        assert_eq!(tables.len(), 1);
        assert_eq!((tables[0].tgid, tables[0].percent()), (11, 78));
    }

    #[test]
    fn empty_tables_are_nobodys_worry() {
        assert_eq!(fullest(&[task(1, 2, 0, 1024)], 5), []);
    }

    #[test]
    fn a_limit_of_zero_is_full() {
        assert_eq!(fullest(&[task(1, 10, 3, 0)], 5)[0].percent(), 100);
    }
}
