//! What each row is to reach.

/// A bound for the figure of a row, or for its ratio to the first peer.
#[derive(Debug)]
pub(crate) struct Goal {
    /// The row.
    pub(crate) name: &'static str,
    /// What is bounded.
    pub(crate) of: Of,
    pub(crate) bound: Bound,
    /// What it is to become once the bound is met.
    pub(crate) then: Option<Bound>,
    /// For the table.
    pub(crate) words: &'static str,
}

/// What is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    Figure,
    Ratio,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// All goals, in the order of the table.
pub(crate) const ALL: &[Goal] = &[
    figure("getppid", 5.0, "at most +5"),
    stretched("open_close", 1_100.0, 800.0, "at most +1 100, then +800"),
    stretched("dup_close", 1_100.0, 800.0, "at most +1 100, then +800"),
    figure("emfile", 300.0, "at most +300"),
    figure("fork_exit", 1.15, "at most 1.15 ×"),
    ratio("start", Bound::AtMost(0.5), "at most half of bpftrace's"),
    figure("base", 30.0, "at most 30 MB"),
    figure("python", 6_000.0, "at most +6 000"),
    Goal {
        name: "accept",
        of: Of::Figure,
        bound: Bound::AtLeast(0.97),
        then: None,
        words: "at least 0.97 ×",
    },
    figure("apply", 400.0, "at most 400"),
    figure("growth", 1.2, "at most 1.2 ×"),
    figure("memory", 64.0, "at most 64 bytes"),
    ratio(
        "ls_count",
        Bound::AtLeast(20.0),
        "at least 20 × faster than lsof",
    ),
    ratio(
        "ls_targets",
        Bound::AtLeast(8.0),
        "at least 8 × faster than lsof",
    ),
];

/// The goal of a row.
pub(crate) fn of(name: &str) -> Option<&'static Goal> {
    ALL.iter().find(|goal| goal.name == name)
}

const fn figure(name: &'static str, most: f64, words: &'static str) -> Goal {
    Goal {
        name,
        of: Of::Figure,
        bound: Bound::AtMost(most),
        then: None,
        words,
    }
}

const fn stretched(name: &'static str, most: f64, then: f64, words: &'static str) -> Goal {
    Goal {
        then: Some(Bound::AtMost(then)),
        ..figure(name, most, words)
    }
}

const fn ratio(name: &'static str, bound: Bound, words: &'static str) -> Goal {
    Goal {
        name,
        of: Of::Ratio,
        bound,
        then: None,
        words,
    }
}
