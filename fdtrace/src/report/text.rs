//! Lines for people: a header once, one line an exhaustion, one more with what it means.

mod cause;
mod ends;
mod exhausted;
mod fold;
mod holders;
mod near_limit;
mod printer;
mod remedy;
mod verdict;

use std::io::{self, Write};

use anstyle::Style;
use jiff::{Timestamp, civil::Date};

use self::fold::Fold;
pub(super) use self::holders::write_snapshot;
pub use self::printer::Printer;
use super::{
    event,
    fact::{Fact, Loss, Place, Summary},
    outstanding,
    page::{BAD, Page},
    sanitize::printable,
    words::counted,
    zone::local,
};

/// Writes a fact; losses and the summary are for stderr.
fn write(output: &mut impl Write, fact: &Fact, page: Page) -> io::Result<()> {
    match fact {
        Fact::Start => write_header(output),
        Fact::StartTrace => event::write_header(output),
        Fact::Event(event) => event::write_text(output, event, page),
        Fact::Exhausted(exhausted) => exhausted::write(output, exhausted, page),
        Fact::Outstanding(block) => outstanding::write_text(output, block, page),
        Fact::NearLimit(near) => near_limit::write(output, near, page),
        Fact::Loss(_) | Fact::Notice(_) | Fact::Looked(_) | Fact::Summary(_) => Ok(()),
    }
}

/// The names of the columns, which together stay below 80.
fn write_header(output: &mut impl Write) -> io::Result<()> {
    writeln!(
        output,
        "{:<8} {:>7} {:<15} {:<14} {:<6} {:>7} {:>7} {:>8}",
        "TIME", "PID", "COMM", "CALL", "ERRNO", "USED", "LIMIT", "REPEATS"
    )
}

/// The first line of a report, which can be grepped.
struct Columns<'a> {
    time: Timestamp,
    pid: String,
    comm: &'a [u8],
    call: &'a str,
    errno: &'a str,
    used: String,
    limit: String,
    repeats: String,
    /// No number is left.
    is_full: bool,
}

impl Columns<'_> {
    fn write(&self, output: &mut impl Write, page: Page) -> io::Result<()> {
        let numbers = format!("{:>7} {:>7}", self.used, self.limit);
        let style = if self.is_full { BAD } else { Style::new() };
        writeln!(
            output,
            "{:<8} {:>7} {:<15} {:<14} {:<6} {} {:>8}",
            local(self.time).strftime("%H:%M:%S").to_string(),
            self.pid,
            printable(self.comm),
            self.call,
            self.errno,
            page.paint(style, &numbers),
            self.repeats,
        )
    }
}

/// The days that lines are of: a watch may run for weeks, and a time alone is of any day.
#[derive(Debug, Default)]
struct Days(Option<Date>);

impl Days {
    /// Writes the date on a line of its own where it is another than that of the fact before.
    fn write(&mut self, output: &mut impl Write, fact: &Fact) -> io::Result<()> {
        let Some(time) = time(fact) else {
            return Ok(());
        };
        let day = local(time).date();
        match self.0.replace(day) {
            Some(before) if before != day => writeln!(output, "{day}"),
            _ => Ok(()),
        }
    }
}

/// When what a line is written of was; `None` where none is.
fn time(fact: &Fact) -> Option<Timestamp> {
    match fact {
        Fact::Event(event) => Some(event.time),
        Fact::Exhausted(exhausted) => Some(exhausted.time),
        Fact::NearLimit(near) => Some(near.time),
        Fact::Outstanding(block) if !block.is_folded => Some(block.time),
        _ => None,
    }
}

/// A loss in one line, for stderr.
#[must_use]
pub fn loss(loss: &Loss) -> String {
    let what = match loss.place {
        Place::Ring => "records: the ring buffer was full",
        Place::Storms => "failures: too many processes fail at once to count them all",
        Place::Follow => "child processes: there are too many to follow them all",
        Place::Skipped => {
            "calls: a hook was running on that CPU already, or too many calls were under way in it"
        }
        Place::Model => "records: they do not fit the ones before, of which some must be missing",
        Place::Shed => "changes: there are more than can be read, and some tables are not followed",
        Place::Stacks => "stacks: more fds are opened than stacks are taken",
        Place::Output => "lines: stdout is not being read fast enough",
    };
    format!("lost {} {what}", loss.count)
}

/// The last line, for stderr.
#[must_use]
pub fn summary(summary: &Summary) -> String {
    let lost = if summary.lost == 0 {
        String::new()
    } else {
        format!(", {} lost", summary.lost)
    };
    format!(
        "{} in {} in {:.1} s{lost}",
        counted(summary.failures, "failure"),
        counted(summary.exhausted, "report"),
        summary.duration_s
    )
}

#[cfg(test)]
mod tests;
