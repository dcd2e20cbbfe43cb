//! Fds that come and go: what load looks like in the table as it is now.

use super::{
    evidence::seconds_between,
    growth::{GROWN_MIN, JITTER, SECONDS_MIN},
    past::Past,
};

/// What has become of fds while those that are open now were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Turnover {
    /// How long ago that began, seconds.
    pub seconds: f64,
    /// The minimum open then.
    pub open: u32,
    /// How many of those have been closed since.
    pub closed_of_open: u32,
    /// Fds opened since.
    pub opened: u64,
    /// Fds closed since.
    pub closed: u64,
}

impl Turnover {
    /// The moment since which the table has turned over most; `None` where it has not.
    pub(super) fn of(past: &Past) -> Option<Self> {
        let (now, marks) = past.marks.split_last()?;
        // What had been closed before most of these were opened says nothing of them.
        let since_ns = past.ages.first_quarter_ns().unwrap_or(0);
        let first = past.mark_before(0..marks.len(), since_ns);
        let at = |index: usize| {
            let mark = &marks[index];
            Self {
                seconds: seconds_between(mark.at_ns, now.at_ns),
                open: mark.low,
                closed_of_open: past.closed_of(index),
                opened: now.opened.saturating_sub(mark.opened),
                closed: now.closed.saturating_sub(mark.closed),
            }
        };
        let closed = (first..marks.len()).map(at).filter(Self::is_of_table);
        let most = closed.max_by_key(|turnover| turnover.closed_of_open);
        most.or_else(|| {
            let mut turnovers = (first..marks.len()).map(at);
            turnovers.find(|turnover| turnover.is_in_place(now.low))
        })
    }

    /// At least a quarter of the table has been closed.
    #[must_use]
    pub fn is_of_table(&self) -> bool {
        self.closed_of_open >= GROWN_MIN && self.closed_of_open.saturating_mul(4) >= self.open
    }

    /// Much is opened and closed in a table that has hardly grown for long enough.
    fn is_in_place(&self, open: u32) -> bool {
        let turns = self.closed >= u64::from(GROWN_MIN) && self.closed * 4 >= self.opened;
        let grown = open.saturating_sub(self.open);
        turns && grown.saturating_mul(10) <= open && self.seconds >= SECONDS_MIN - JITTER
    }
}
