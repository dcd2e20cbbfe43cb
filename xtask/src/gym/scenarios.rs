//! The scenarios, a family to a file.

mod above_limit;
mod churn;
mod cost;
mod crowd;
mod episodes;
mod false_leads;
mod full_table;
mod half_made;
mod kinds;
mod passing;
mod processes;
mod retry;
mod select;
mod services;
mod silent;
mod slots;
mod storms;
mod system_wide;
mod tables;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::{report::Facts, run::Run};

/// A way to run out of descriptors, or to look as if.
pub(crate) struct Scenario {
    /// What it is called on the command line: the call, where that is all there is to it.
    pub(crate) name: &'static str,
    /// What it does, for the help.
    about: &'static str,
    /// The soft limit unless `--limit` gives one.
    pub(crate) limit: u64,
    /// Whether it stays until standard input ends, without being told to.
    pub(crate) stays: bool,
    /// Whether the process is called like the scenario, unless `--comm` says otherwise.
    pub(crate) named: bool,
    /// Does it, up to the last check.
    pub(crate) run: fn(&mut Run) -> Result<Facts>,
}

impl Scenario {
    /// A scenario at the usual limit.
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&mut Run) -> Result<Facts>,
    ) -> Self {
        Self {
            name,
            about,
            limit: 64,
            stays: false,
            named: false,
            run,
        }
    }

    /// The same at another limit.
    const fn at(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The same under its own name.
    const fn named(self) -> Self {
        Self {
            named: true,
            ..self
        }
    }

    /// The same, held until standard input ends.
    const fn staying(self) -> Self {
        Self {
            stays: true,
            ..self
        }
    }
}

/// Every scenario, family by family.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    let families = [
        full_table::ALL,
        above_limit::ALL,
        silent::ALL,
        system_wide::ALL,
        false_leads::ALL,
        storms::ALL,
        processes::ALL,
        churn::ALL,
        crowd::ALL,
        slots::ALL,
        tables::ALL,
        half_made::ALL,
        passing::ALL,
        kinds::ALL,
        cost::ALL,
        retry::ALL,
        select::ALL,
        services::ALL,
        episodes::ALL,
    ];
    families.into_iter().flatten()
}

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// What the command line takes as a scenario.
pub(crate) fn names() -> PossibleValuesParser {
    all().map(|scenario| scenario.name).chain(["list"]).into()
}

/// The scenarios with what they do.
pub(crate) fn help() -> String {
    let lines = all().map(|scenario| format!("  {:22}{}\n", scenario.name, scenario.about));
    format!("Scenarios:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_given_once() {
        let names: Vec<_> = super::all().map(|scenario| scenario.name).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(!distinct.contains(&"list"), "`gym list` prints the names");
    }
}
