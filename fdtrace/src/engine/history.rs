//! The latest changes of all slots, for whoever asks how one came to be what it is.

use std::collections::VecDeque;

use super::change::{Change, Sink};

/// Changes that are remembered.
const REMEMBERED: usize = 1 << 15;

/// The latest changes.
#[derive(Debug, Default)]
pub struct History {
    changes: VecDeque<Change>,
}

impl History {
    /// The latest changes of a slot, oldest first.
    #[must_use]
    pub fn of(&self, files: u64, fd: u32, at_most: usize) -> Vec<Change> {
        let of_slot = |change: &&Change| change.files == files && change.open.fd == fd;
        let latest = self.changes.iter().rev().filter(of_slot);
        let mut latest: Vec<_> = latest.take(at_most).copied().collect();
        latest.reverse();
        latest
    }
}

impl Sink for History {
    fn change(&mut self, change: Change, _: &[u8]) {
        if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }
}
