//! A row of the table: what was measured, and what to make of it.

use std::fmt;

use super::goals::{self, Goal, Of};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Instructions beside those that there were without a tracer.
    MoreInstructions,
    /// Instructions.
    Instructions,
    /// A multiple of what it was without a tracer, or at a tenth of the size.
    Times,
    /// Thousandths of a second.
    Milliseconds,
    Bytes,
    Megabytes,
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measure {
    Figure(f64),
    /// Left out by choice.
    NotMeasured(String),
    /// It cannot be had here.
    NotAvailable(String),
    /// It should have been there.
    Failed(String),
}

impl Measure {
    pub(crate) fn figure(&self) -> Option<f64> {
        match self {
            Self::Figure(figure) => Some(*figure),
            _ => None,
        }
    }

    /// The same with another figure.
    pub(crate) fn map(self, change: impl FnOnce(f64) -> f64) -> Self {
        match self {
            Self::Figure(figure) => Self::Figure(change(figure)),
            other => other,
        }
    }
}

/// What is left out with `--quick`.
pub(crate) fn not_in_quick() -> Measure {
    Measure::NotMeasured("--quick".to_owned())
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// What is measured, on which kernel.
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) fdtrace: Measure,
    /// What else there is for the same end, the one that the ratio is about first.
    pub(crate) peers: Vec<(String, Measure)>,
    /// fdtrace and the first peer.
    pub(crate) ratio: Option<f64>,
    /// Where what the goal is about lies for certain, if it was measured by the clock on the wall.
    pub(crate) range: Option<(f64, f64)>,
}

impl Row {
    /// A row whose section has come to nothing.
    pub(crate) fn failed(name: &'static str, reason: &str) -> Self {
        Self {
            name,
            what: name.to_owned(),
            unit: Unit::Instructions,
            fdtrace: Measure::Failed(reason.to_owned()),
            peers: Vec::new(),
            ratio: None,
            range: None,
        }
    }

    /// Puts in the ratio of fdtrace's figure to the first peer's.
    pub(crate) fn compared(mut self) -> Self {
        let peer = self.peers.first().and_then(|(_, measure)| measure.figure());
        let both = self.fdtrace.figure().zip(peer);
        self.ratio = both
            .filter(|(_, peer)| *peer != 0.0)
            .map(|(own, peer)| own / peer);
        self
    }

    pub(crate) fn goal(&self) -> Option<&'static Goal> {
        goals::of(self.name)
    }

    /// What has become of the goal.
    pub(crate) fn verdict(&self) -> Verdict {
        let value = self.goal().and_then(|goal| match goal.of {
            Of::Figure => self.fdtrace.figure(),
            Of::Ratio => self.ratio,
        });
        let Some((goal, value)) = self.goal().zip(value) else {
            return Verdict::Unknown;
        };
        let is_unclear = |(low, high)| goal.bound.holds(low) != goal.bound.holds(high);
        if self.range.is_some_and(is_unclear) {
            Verdict::Unclear
        } else if !goal.bound.holds(value) {
            Verdict::Missed
        } else if goal.then.is_some_and(|then| !then.holds(value)) {
            Verdict::MetAtFirst
        } else {
            Verdict::Met
        }
    }
}

/// What has become of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// The first bound, and not yet the one after it.
    MetAtFirst,
    Missed,
    /// The figures vary too much to tell.
    Unclear,
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Met => "met",
            Self::MetAtFirst => "met, the first",
            Self::Missed => "missed",
            Self::Unclear => "unclear",
            Self::Unknown => "-",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, own: f64, peer: f64) -> Row {
        Row {
            fdtrace: Measure::Figure(own),
            peers: vec![("peer".to_owned(), Measure::Figure(peer))],
            ..Row::failed(name, "")
        }
        .compared()
    }

    #[test]
    fn verdicts_are_about_the_figure_or_the_ratio() {
        assert_eq!(row("getppid", 5.0, 360.0).verdict(), Verdict::Met);
        assert_eq!(row("getppid", 5.1, 360.0).verdict(), Verdict::Missed);
        assert_eq!(
            row("open_close", 900.0, 2_720.0).verdict(),
            Verdict::MetAtFirst
        );
        assert_eq!(row("open_close", 800.0, 2_720.0).verdict(), Verdict::Met);
        assert_eq!(row("start", 100.0, 200.0).verdict(), Verdict::Met);
        assert_eq!(row("start", 101.0, 200.0).verdict(), Verdict::Missed);
        assert_eq!(row("accept", 0.96, 1.0).verdict(), Verdict::Missed);
    }

    #[test]
    fn figures_that_vary_across_the_bound_decide_nothing() {
        let mut accept = row("accept", 0.75, 0.78);
        accept.range = Some((0.46, 1.01));
        assert_eq!(accept.verdict(), Verdict::Unclear);
        accept.range = Some((0.46, 0.96));
        assert_eq!(accept.verdict(), Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        assert_eq!(
            Row::failed("getppid", "no guest").verdict(),
            Verdict::Unknown
        );
        let mut start = row("start", 100.0, 200.0);
        start.peers[0].1 = not_in_quick();
        assert_eq!(start.compared().verdict(), Verdict::Unknown);
    }
}
