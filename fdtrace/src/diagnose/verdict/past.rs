//! A table's past: how many fds were open at some moments, and when those that are open now were opened.
//!
//! The two together tell what becomes of fds: of those that were open at a moment, whatever is not open any
//! more has been closed since.

use std::ops::Range;

use crate::engine::table::Stretch;

/// A moment at which something is known of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The moment, nanoseconds since boot.
    pub(super) at_ns: u64,
    /// The minimum open from then until the next mark.
    pub(super) low: u32,
    /// Fds that had been opened until then.
    pub(super) opened: u64,
    /// Fds that had been closed until then.
    pub(super) closed: u64,
}

/// When the fds that are open now were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ages {
    /// Fds that are older than the first mark, or came with the table.
    before: u32,
    /// Of the others, nanoseconds since boot, ascending.
    times: Vec<u64>,
}

impl Ages {
    /// `before` fds without a time of their own, and the times of the others.
    pub(super) fn new(before: u32, mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self { before, times }
    }

    /// Fds with a time of their own.
    pub(super) fn timed(&self) -> u32 {
        saturated(self.times.len())
    }

    /// How many of the fds that are open now were open at a moment already.
    pub(super) fn until(&self, at_ns: u64) -> u32 {
        let timed = self.times.partition_point(|time_ns| *time_ns <= at_ns);
        self.before.saturating_add(saturated(timed))
    }

    /// When the next one was opened after so many that came after a moment.
    pub(super) fn nth_after(&self, at_ns: u64, count: u32) -> Option<u64> {
        let before = self.times.partition_point(|time_ns| *time_ns <= at_ns);
        self.times.get(before + count as usize).copied()
    }

    /// When the first quarter of them had been opened.
    pub(super) fn first_quarter_ns(&self) -> Option<u64> {
        self.times.get(self.times.len() / 4).copied()
    }
}

/// Marks, oldest first; the last one is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) marks: Vec<Mark>,
    pub(super) ages: Ages,
}

impl Past {
    /// `begin`: when the table was made, where that was seen. `now`: the moment of the diagnosis.
    pub(super) fn new(begin: Option<Mark>, stretches: &[Stretch], now: Mark, ages: Ages) -> Self {
        let mut marks = Vec::with_capacity(stretches.len() + 2);
        marks.extend(begin);
        for (index, part) in stretches.iter().enumerate() {
            // Counts are those of a stretch's end.
            let before = index.checked_sub(1).map_or(part, |index| &stretches[index]);
            marks.push(Mark {
                at_ns: part.from_ns,
                low: part.low,
                opened: before.opened,
                closed: before.closed,
            });
        }
        marks.retain(|mark| mark.at_ns < now.at_ns);
        // A recording may tell anything.
        marks.sort_by_key(|mark| mark.at_ns);
        marks.push(now);
        Self { marks, ages }
    }

    /// Of the fds that were open at a mark, how many have been closed since.
    pub(super) fn closed_of(&self, index: usize) -> u32 {
        let mark = &self.marks[index];
        mark.low.saturating_sub(self.ages.until(mark.at_ns))
    }

    /// The last mark that is no later than a moment, or the first one of the range.
    pub(super) fn mark_before(&self, range: Range<usize>, at_ns: u64) -> usize {
        let marks = self.marks.get(range.clone()).unwrap_or_default();
        let later = marks.partition_point(|mark| mark.at_ns <= at_ns);
        range.start + later.saturating_sub(1)
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
