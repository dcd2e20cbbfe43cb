//! Growth by fds that stay open: what a leak looks like in the table as it is now.
//!
//! Under load fds are closed again, so that those open now are young, however long the table has been full.
//! What leaks stays: its ages are spread over the whole time in which the table has grown, and it makes up what
//! the table has grown by. Whatever was opened and closed again before that time, or beside it, changes
//! neither.

use super::{evidence::seconds_between, past::Past};

/// A shorter time shows no growth, seconds.
pub(super) const SECONDS_MIN: f64 = 4.0;
/// Tables are looked at once a second, sometimes a little early: so much less is the same time, seconds.
pub(super) const JITTER: f64 = 0.25;
/// Growth by fewer fds is noise.
pub(super) const GROWN_MIN: u32 = 8;
/// This full, in percent of the limit, a table does not grow any more.
pub(super) const FULL: u64 = 95;
/// Tables are looked at so often, seconds, and marks are as exact as that.
const LOOK: f64 = 1.0;
/// Marks between beginning and end, where anything was closed meanwhile.
const MARKS_MIN: usize = 3;

/// The longest time until now, or until the table was full, in which fds have piled up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// The minimum open at its beginning.
    pub from: u32,
    /// The same at its end.
    pub to: u32,
    /// When it began, nanoseconds since boot.
    pub since_ns: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Fds opened in that time that are still open.
    pub kept: u32,
    /// How long ago half of the time was over, seconds.
    pub half_s: f64,
    /// The minimum open then.
    pub half: u32,
    /// Those of them that are still open.
    pub half_kept: u32,
}

impl Growth {
    /// Fds a minute; a tenth is as exact as it gets.
    #[must_use]
    pub fn per_min(&self) -> f64 {
        (f64::from(self.kept) / self.seconds * 600.0).round() / 10.0
    }

    /// `limit`: the soft limit, where it is known.
    pub(super) fn of(past: &Past, limit: Option<u64>) -> Option<Self> {
        let is_full = |low: u32| {
            limit.is_some_and(|limit| u64::from(low) * 100 >= limit.saturating_mul(FULL))
        };
        let last = past.marks.len().checked_sub(1)?;
        // Where it has been full for a while, it had grown until then.
        let room = past.marks.iter().rposition(|mark| !is_full(mark.low))?;
        let end = last.min(room + 1);
        let windows = (0..end).map(|begin| Window { past, begin, end });
        let mut windows = windows.take_while(Window::is_enough);
        windows
            .find(Window::is_piling_up)
            .map(|window| window.trimmed().growth())
    }
}

/// Two marks, and the time between them.
#[derive(Clone, Copy)]
struct Window<'a> {
    past: &'a Past,
    begin: usize,
    end: usize,
}

impl Window<'_> {
    fn begin_ns(&self) -> u64 {
        self.past.marks[self.begin].at_ns
    }

    fn length_ns(&self) -> u64 {
        self.past.marks[self.end].at_ns - self.begin_ns()
    }

    /// Fds opened in so many eighths of the time that are still open.
    fn kept_in(&self, eighths: u64) -> u32 {
        let until_ns = self.begin_ns() + self.length_ns() / 8 * eighths;
        let ages = &self.past.ages;
        ages.until(until_ns) - ages.until(self.begin_ns())
    }

    fn kept(&self) -> u32 {
        let ages = &self.past.ages;
        ages.until(self.past.marks[self.end].at_ns) - ages.until(self.begin_ns())
    }

    /// The last mark within so many eighths of the time.
    fn mark_in(&self, eighths: u64) -> usize {
        let until_ns = self.begin_ns() + self.length_ns() / 8 * eighths;
        self.past.mark_before(self.begin..self.end, until_ns)
    }

    /// Windows that begin later are not, where this one is not.
    fn is_enough(&self) -> bool {
        let seconds = seconds_between(0, self.length_ns());
        seconds >= SECONDS_MIN - JITTER && self.kept() >= GROWN_MIN
    }

    fn is_piling_up(&self) -> bool {
        self.is_even() && self.is_what_grows() && self.outweighs_the_rest()
    }

    /// In three quarters of the time at least some have been added.
    fn is_even(&self) -> bool {
        let least = (self.kept() / 16).max(1);
        let quarters = [0, 2, 4, 6].map(|eighth| {
            let until = if eighth == 6 {
                self.kept()
            } else {
                self.kept_in(eighth + 2)
            };
            until - self.kept_in(eighth) >= least
        });
        quarters.into_iter().filter(|has_grown| *has_grown).count() >= 3
    }

    /// What has stayed is what the table has grown by: not others that have taken places of those closed, and
    /// not more and more at once that are closed in the end.
    fn is_what_grows(&self) -> bool {
        let closed_of = |index| self.past.closed_of(index);
        let kept = self.kept();
        // What comes and goes beside it may have begun with it.
        let beside = closed_of(self.begin).max(closed_of(self.mark_in(1)));
        let middle = self.mark_in(4);
        let early_kept = self.kept_at(middle);
        let closed = (self.begin..self.end).map(closed_of).max();
        let mark = |index: usize| &self.past.marks[index];
        let all_closed = mark(self.end)
            .closed
            .saturating_sub(mark(self.begin).closed);
        let is_seen = self.end - self.begin >= MARKS_MIN || all_closed * 4 <= u64::from(kept);
        is_seen
            && closed.unwrap_or(0).max(beside).saturating_mul(2) <= kept
            && closed_of(middle).saturating_sub(beside).saturating_mul(3) <= early_kept
    }

    /// It is most of what the table holds, or little has ever been closed again. A table that was as full before,
    /// and has emptied, does so again.
    fn outweighs_the_rest(&self) -> bool {
        let closed = (0..self.end).map(|index| self.past.closed_of(index)).max();
        let (closed, kept, timed) = (closed.unwrap_or(0), self.kept(), self.past.ages.timed());
        let has_emptied = u64::from(closed) * 4 >= u64::from(timed) * 3;
        !has_emptied && (kept.saturating_mul(2) >= timed || closed.saturating_mul(2) <= kept)
    }

    /// Fds opened until a mark that are still open.
    fn kept_at(&self, index: usize) -> u32 {
        let ages = &self.past.ages;
        ages.until(self.past.marks[index].at_ns) - ages.until(self.begin_ns())
    }

    /// Without the time before it began to grow.
    fn trimmed(self) -> Self {
        let begin = (self.begin..self.end)
            .take_while(|index| self.kept_at(*index) <= self.slack())
            .last();
        let trimmed = Self {
            begin: begin.unwrap_or(self.begin),
            ..self
        };
        if trimmed.is_enough() { trimmed } else { self }
    }

    /// When it began to grow, if that was long after the first mark, and the few fds that were opened until then. A table
    /// that holds little is not looked at: of a program that takes its time to start, the first mark is the table's
    /// beginning, and its standard streams came just after that.
    fn late_start(&self) -> Option<(u64, u32)> {
        let slack = self.slack();
        let since_ns = self.past.ages.nth_after(self.begin_ns(), slack)?;
        let late = seconds_between(self.begin_ns(), since_ns);
        let is_late = late > LOOK + seconds_between(0, self.length_ns()) / 8.0;
        (is_late && since_ns < self.past.marks[self.end].at_ns).then_some((since_ns, slack))
    }

    /// So many fds are no growth yet.
    fn slack(&self) -> u32 {
        self.kept() / 32
    }

    fn growth(&self) -> Growth {
        let mark = |index: usize| &self.past.marks[index];
        let (begin, end) = (mark(self.begin), mark(self.end));
        let middle = mark(self.mark_in(4).max(self.begin + 1).min(self.end));
        let now_ns = self.past.marks.last().map_or(end.at_ns, |now| now.at_ns);
        let late = self.late_start();
        let since_ns = late.map_or(begin.at_ns, |(since_ns, _)| since_ns);
        let early = late.map_or(0, |(_, early)| early);
        let half_kept = self.past.ages.until(middle.at_ns);
        Growth {
            from: begin.low + early,
            to: end.low,
            since_ns,
            seconds: seconds_between(since_ns, end.at_ns),
            kept: self.kept() - early,
            half_s: seconds_between(middle.at_ns, now_ns),
            half: middle.low.max(half_kept),
            half_kept,
        }
    }
}
