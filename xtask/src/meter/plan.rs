//! What the meter is told to do, and what it tells: a line of JSON each.

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Plan {
    /// What runs beside the loads, one after the other, in each round.
    pub(crate) tracers: Vec<Tracer>,
    /// What is timed under each of them.
    pub(crate) loads: Vec<Load>,
    /// How often everything is done.
    pub(crate) rounds: u32,
}

/// What runs beside the loads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tracer {
    /// What it is called in the figures.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// When it has begun.
    pub(crate) ready: Ready,
    /// The loads that are timed under it, by their names.
    pub(crate) loads: Vec<String>,
}

/// When a tracer sees everything.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Ready {
    /// There is none: the loads run alone.
    Untraced,
    /// When this has been said on stderr.
    Said(String),
    /// When it waits for events for the first time, after all that it had to prepare.
    Waits,
    /// The loads run under it: its command comes before theirs.
    Around,
}

/// A program that times itself, as `gym`'s `cost_` scenarios do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Load {
    /// What it is called in the figures.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
}

/// What the meter tells.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A load has run.
    Load {
        tracer: String,
        load: String,
        ns: u64,
        operations: u64,
    },
    /// A tracer was ready so long after it was started.
    Start { tracer: String, ns: u64 },
    /// So much memory a tracer had when the loads had run.
    Memory { tracer: String, resident: u64 },
    /// A tracer, or a load under it, did not do what it should.
    Failed { tracer: String, reason: String },
}
