//! What fdtrace costs, side by side with what one would use instead: one table at the end.
//!
//! Sections measure, each a few rows. Nothing in the table comes from anywhere else: what could not be
//! measured has its reason there instead of a figure.

mod apply;
mod cost;
mod goals;
mod guest;
mod lines;
mod listing;
mod load;
pub(crate) mod peers;
#[path = "meter/plan.rs"]
mod plan;
mod row;
mod save;
mod statistics;
mod table;

use std::time::Instant;

use anyhow::{Result, bail};

use self::row::{Measure, Row};
use crate::kernel::Kernel;

/// The kernels whose costs are compared, the first one under load as well.
pub(crate) const KERNELS: [Kernel; 3] = [Kernel::V6_1, Kernel::V6_12, Kernel::New];

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Few repetitions, one kernel, no peer that takes long to start.
    pub(crate) quick: bool,
    /// In place of `fdtrace watch`, what slots and alarms alone cost.
    pub(crate) slots: bool,
    /// Writes the table into the documentation.
    pub(crate) save: bool,
    /// Only rows whose name contains it.
    pub(crate) filter: Option<String>,
    /// On these kernels.
    pub(crate) kernels: Vec<Kernel>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let filter = self.filter.as_deref();
        filter.is_none_or(|filter| name.contains(filter))
    }

    /// A number of repetitions, or in short the other one.
    fn repeat<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

/// Rows that are measured together.
struct Section {
    names: &'static [&'static str],
    measure: fn(&Options) -> Result<Vec<Row>>,
}

const SECTIONS: [Section; 5] = [
    Section {
        names: cost::NAMES,
        measure: cost::rows,
    },
    Section {
        names: lines::NAMES,
        measure: lines::rows,
    },
    Section {
        names: &["accept"],
        measure: load::rows,
    },
    Section {
        names: &["apply", "growth"],
        measure: apply::rows,
    },
    Section {
        names: listing::NAMES,
        measure: listing::rows,
    },
];

/// What cannot go together is said before anything is measured.
pub(crate) fn run(options: &Options) -> Result<u8> {
    if options.save && (options.quick || options.slots || options.filter.is_some()) {
        bail!("--save keeps the whole table: leave out --quick, --slots and the name of a row");
    }
    measure(options)
}

/// Measures, prints the table, and saves it if asked to. Status 0 if nothing failed: a goal that is
/// missed is a figure, not a failure.
fn measure(options: &Options) -> Result<u8> {
    let wanted = |name: &&&str| options.wants(name);
    let mut rows = Vec::new();
    let mut failed = false;
    // The others are about commands, which have no slots yet.
    let sections = if options.slots {
        &SECTIONS[..1]
    } else {
        &SECTIONS
    };
    for section in sections {
        let names: Vec<_> = section.names.iter().filter(wanted).copied().collect();
        if names.is_empty() {
            continue;
        }
        eprintln!("xtask: measuring {}", names.join(", "));
        let start = Instant::now();
        match (section.measure)(options) {
            Ok(measured) => rows.extend(measured.into_iter().filter(|row| options.wants(row.name))),
            Err(error) => {
                failed = true;
                eprintln!("xtask: {error:#}");
                let reason = format!("{error:#}")
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                rows.extend(names.iter().map(|name| Row::failed(name, &reason)));
            }
        }
        eprintln!("xtask: {} s", start.elapsed().as_secs());
    }
    let names = sections.iter().flat_map(|section| section.names);
    let asked_for: Vec<_> = names.filter(wanted).copied().collect();
    for name in without_row(&asked_for, &rows) {
        failed = true;
        eprintln!("xtask: {name} has no row");
    }
    if rows.is_empty() {
        let names: Vec<_> = SECTIONS.iter().flat_map(|section| section.names).collect();
        bail!("no row has that name; there are: {names:?}");
    }
    let is_without = |row: &Row| matches!(row.fdtrace, Measure::Failed(_));
    failed |= rows.iter().any(is_without);
    print!("{}", table::text(&rows));
    if options.save {
        save::save(options, &rows)?;
    }
    Ok(u8::from(failed))
}

/// Names of which nothing was measured, and nobody said why.
fn without_row<'a>(names: &[&'a str], rows: &[Row]) -> Vec<&'a str> {
    let has_row = |name: &str| rows.iter().any(|row| row.name == name);
    names
        .iter()
        .copied()
        .filter(|name| !has_row(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_is_named() {
        let rows = [Row::failed("emfile", "no guest")];
        assert_eq!(without_row(&["emfile"], &rows), [""; 0]);
        assert_eq!(
            without_row(&["open", "emfile", "ls"], &rows),
            ["open", "ls"]
        );
    }

    #[test]
    fn every_row_has_a_goal_and_every_goal_a_row() {
        let names: Vec<&str> = SECTIONS
            .iter()
            .flat_map(|section| section.names)
            .copied()
            .collect();
        let goals: Vec<&str> = goals::ALL.iter().map(|goal| goal.name).collect();
        assert_eq!(names, goals);
    }
}
