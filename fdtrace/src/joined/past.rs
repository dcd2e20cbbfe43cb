//! What stays from one look to the next: since when a table has been looked at, what has come into it, how full it was.

use std::mem;

use super::{Joined, Known, Look};
use crate::engine::trend::Counted;

/// A table as the first look has found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct First {
    /// When that was, nanoseconds since boot.
    pub(super) looked_ns: u64,
    /// Files that slots had counted by then.
    opened: u64,
    /// Files that had come into it by then, as far as that is known: of a table from before the hooks, what was open.
    gained: u64,
    /// Those of them that came with it. What was closed before this look is not among them: nobody has counted it.
    pub(super) copied: u64,
}

impl First {
    pub(super) fn of(table: &Known, looked_ns: u64) -> Self {
        let open = table.fds.len() as u64;
        let inherited = table.fds.values().filter(|row| row.open.is_inherited);
        let (gained, copied) = if table.made_ns == 0 {
            (open, 0)
        } else {
            let copied = inherited.count() as u64;
            (table.opened + copied, copied)
        };
        Self {
            looked_ns,
            opened: table.opened,
            gained,
            copied,
        }
    }
}

impl Known {
    /// Files that have come into it as long as it was looked at, those included that the first look has found.
    pub(super) fn gained(&self) -> u64 {
        self.first.gained + self.opened.saturating_sub(self.first.opened)
    }

    /// Is it the same table? The allocator hands addresses out again at once; what is made under the hooks has a time.
    /// The table that processes share goes on where one of them ends.
    fn is_same(&self, other: &Self) -> bool {
        self.made_ns == other.made_ns && (self.made_ns != 0 || self.tgid == other.tgid)
    }
}

impl Joined {
    /// Takes another look in. One without a mark has no end, and is none: all stays as it was.
    pub fn take(&mut self, look: Look) {
        let Some(mut now) = Self::of_look(&look) else {
            return;
        };
        for row in &look.rows {
            self.sockets.take_peer(&row.seen);
        }
        now.limits = look.tasks;
        if self.looked_ns != 0 {
            now.first_looked_ns = self.first_looked_ns;
        }
        now.trends = mem::take(&mut self.trends);
        now.sockets = mem::take(&mut self.sockets);
        now.openers = mem::take(&mut self.openers);
        for (files, table) in &mut now.tables {
            let before = self.tables.get(files);
            if let Some(before) = before.filter(|before| before.is_same(table)) {
                table.first = before.first;
            }
        }
        let tables = now.tables.iter().map(|(files, table)| {
            let open = u32::try_from(table.fds.len()).unwrap_or(u32::MAX);
            let before = self.tables.get(files);
            let before = before.filter(|before| before.is_same(table));
            let before = before.map_or(open, |before| {
                u32::try_from(before.fds.len()).unwrap_or(u32::MAX)
            });
            Counted {
                files: *files,
                generation: table.made_ns,
                open,
                // Between two looks nobody has counted.
                low: open.min(before),
                high: open.max(before),
                gained: table.gained(),
            }
        });
        now.trends.take(now.looked_ns, tables);
        *self = now;
    }
}
