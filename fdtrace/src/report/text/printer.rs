//! Facts on paper, one after the other: with the date where it changes, and equal ones folded.

use std::{
    io::{self, Write},
    time::Duration,
};

use jiff::Timestamp;

use super::{Days, Fold, fold::Others, time, write};
use crate::report::{fact::Fact, page::Paper};

/// What has been printed lately.
#[derive(Debug)]
pub struct Printer {
    paper: Paper,
    /// Facts come as they happen; else the time is theirs.
    is_live: bool,
    /// The time of the latest fact.
    latest: Timestamp,
    days: Days,
    fold: Fold,
}

impl Printer {
    /// Nothing has.
    #[must_use]
    pub fn new(paper: Paper, is_live: bool) -> Self {
        Self {
            paper,
            is_live,
            latest: Timestamp::UNIX_EPOCH,
            days: Days::default(),
            fold: Fold::default(),
        }
    }

    /// Prints a fact, and before it what has become due.
    pub fn print(&mut self, output: &mut impl Write, fact: &Fact) -> io::Result<()> {
        let Some(time) = time(fact) else {
            return write(output, fact, self.paper.page());
        };
        let now = if self.is_live { Timestamp::now() } else { time };
        self.latest = now;
        self.print_others(output, now)?;
        if self.fold.take(fact, now) {
            return Ok(());
        }
        self.days.write(output, fact)?;
        write(output, fact, self.paper.page())
    }

    /// How long until something becomes due by itself; `None`: only another fact makes it so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let due = self.fold.next().filter(|_| self.is_live)?;
        // What is in the past is due at once.
        Some(
            Timestamp::now()
                .duration_until(due)
                .try_into()
                .unwrap_or_default(),
        )
    }

    /// Prints what is due now.
    pub fn print_due_now(&mut self, output: &mut impl Write) -> io::Result<()> {
        self.print_others(output, Timestamp::now())
    }

    /// Prints what has not been yet: nothing more comes.
    pub fn finish(&mut self, output: &mut impl Write) -> io::Result<()> {
        let others = self.fold.finish(self.latest);
        self.write_all(output, &others)
    }

    fn print_others(&mut self, output: &mut impl Write, now: Timestamp) -> io::Result<()> {
        let due = self.fold.due(now);
        self.write_all(output, &due)
    }

    fn write_all(&self, output: &mut impl Write, others: &[Others]) -> io::Result<()> {
        others
            .iter()
            .try_for_each(|others| others.write(output, self.paper.page()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fact::{Exhausted, samples};

    fn failure(pid: u32, time: Timestamp) -> Fact {
        Fact::Exhausted(Box::new(Exhausted {
            pid,
            tid: pid,
            time,
            is_news: false,
            ..samples::exhausted()
        }))
    }

    fn lines(output: &[u8]) -> usize {
        String::from_utf8_lossy(output).lines().count()
    }

    #[test]
    fn equal_ones_of_a_recording_are_folded_by_their_own_time() {
        let (mut printer, mut output) = (Printer::new(Paper::Plain, false), Vec::new());
        let begin: Timestamp = "2026-11-22T08:15:30Z".parse().unwrap();
        let mut print = |pid, milliseconds| {
            let time = begin + Duration::from_millis(milliseconds);
            printer.print(&mut output, &failure(pid, time)).unwrap();
            (lines(&output), printer.wait())
        };
        assert_eq!(print(1, 0), (1, None));
        assert_eq!(print(2, 10), (1, None));
        assert_eq!(print(3, 999), (1, None));
        // The two in one line, and the new one.
        assert_eq!(print(4, 1_000), (3, None));
        assert_eq!(print(5, 1_500), (3, None));
        printer.finish(&mut output).unwrap();
        assert_eq!(lines(&output), 4);
    }

    #[test]
    fn live_they_are_told_when_the_second_is_over_whatever_else_happens() {
        let (mut printer, mut output) = (Printer::new(Paper::Plain, true), Vec::new());
        assert_eq!(printer.wait(), None);
        for pid in [1, 2] {
            let fact = failure(pid, Timestamp::now());
            printer.print(&mut output, &fact).unwrap();
        }
        assert_eq!(lines(&output), 1);
        let wait = printer.wait().unwrap();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        printer
            .print_others(&mut output, Timestamp::now() + wait)
            .unwrap();
        assert_eq!((lines(&output), printer.wait()), (2, None));
    }
}
