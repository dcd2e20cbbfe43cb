//! Which stack has opened what is in a slot, where one was taken.
//!
//! Beside the tables and not in them: few fds have one, and what every record touches stays small.

use rustc_hash::FxHashMap;

use super::opener::{Sequence, Slot};

/// Openers that are remembered at most: as many as the largest tables that are known to have run out.
const MAX: usize = 1 << 18;
/// Below this many, nobody looks for those whose fd is closed.
const FEW: usize = 4_096;

/// Who has put a file into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opener {
    file: u64,
    sequence: Sequence,
}

/// The openers of all slots for which one is known.
#[derive(Debug)]
pub struct Openers {
    by_slot: FxHashMap<(u64, u32), Opener>,
    /// So many, and those whose fd is closed are looked for.
    full: usize,
    /// Openers that there was no room for.
    refused: u64,
}

impl Default for Openers {
    fn default() -> Self {
        Self {
            by_slot: FxHashMap::default(),
            full: FEW,
            refused: 0,
        }
    }
}

impl Openers {
    /// A stack belongs to a file that is coming into a slot. The sequences that belong to nothing any more
    /// go into `gone`; whether a file is still in its slot is asked where there are many.
    pub fn put(
        &mut self,
        (files, fd, file): Slot,
        sequence: Sequence,
        is_there: &dyn Fn(Slot) -> bool,
        gone: &mut Vec<Sequence>,
    ) {
        if self.by_slot.len() >= self.full {
            self.sweep(is_there, gone);
            if self.by_slot.len() >= MAX {
                self.refused += 1;
                gone.push(sequence);
                return;
            }
        }
        let before = self.by_slot.insert((files, fd), Opener { file, sequence });
        gone.extend(before.map(|before| before.sequence));
    }

    /// The stack that has opened this file in this slot.
    #[must_use]
    pub fn get(&self, files: u64, fd: u32, file: u64) -> Option<Sequence> {
        let opener = self.by_slot.get(&(files, fd))?;
        (opener.file == file).then_some(opener.sequence)
    }

    /// The stack of a call that has failed, by the number that stands for it
    /// ([`FAILING`](fdtrace_common::stack::FAILING)), and no longer.
    pub fn take(&mut self, files: u64, fd: u32) -> Option<Sequence> {
        let opener = self.by_slot.remove(&(files, fd))?;
        Some(opener.sequence)
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// Is none known?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Openers that there was no room for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets those whose file is not in its slot. The next time is when there are twice as many as stay.
    fn sweep(&mut self, is_there: &dyn Fn(Slot) -> bool, gone: &mut Vec<Sequence>) {
        self.by_slot.retain(|(files, fd), opener| {
            let stays = is_there((*files, *fd, opener.file));
            if !stays {
                gone.push(opener.sequence);
            }
            stays
        });
        self.full = (self.by_slot.len() * 2).clamp(FEW, MAX);
    }
}

#[cfg(test)]
mod tests;
