//! What a record costs on the user side: instructions of the model alone, counted by valgrind.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    Options,
    guest::as_f64,
    peers,
    row::{Measure, Row, Unit},
};
use crate::{build, command};

/// What the model has to do.
#[derive(Clone, Copy)]
struct Size {
    tables: u32,
    fds: u32,
    records: u32,
    /// Rounds beside the first one, by which what comes before them is subtracted.
    rounds: u32,
}

/// The rows.
pub(crate) fn rows(options: &Options) -> Result<Vec<Row>> {
    let valgrind = match peers::find("valgrind", "valgrind") {
        Ok(valgrind) => valgrind,
        Err(absent) => return Ok(absences(&absent)),
    };
    let apply = build::apply(!options.quick)?;
    let base = options.repeat(
        Size {
            tables: 100,
            fds: 100,
            records: 10_000,
            rounds: 10,
        },
        Size {
            tables: 10,
            fds: 10,
            records: 1_000,
            rounds: 2,
        },
    );
    let cost = |size: Size| cost(&valgrind, &apply, size);
    let one = cost(base)?;
    let mut rows = vec![Row {
        fdtrace: Measure::Figure(one),
        ..row(
            "apply",
            "applying one record, instructions",
            Unit::Instructions,
        )
    }];
    for (what, size) in [
        (
            "records",
            Size {
                rounds: base.rounds * 10,
                ..base
            },
        ),
        (
            "tables",
            Size {
                tables: base.tables * 10,
                ..base
            },
        ),
        (
            "fds",
            Size {
                fds: base.fds * 10,
                ..base
            },
        ),
    ] {
        let words = format!("growth: a record's instructions with ten times the {what}");
        rows.push(Row {
            fdtrace: Measure::Figure(cost(size)? / one),
            ..row("growth", &words, Unit::Times)
        });
    }
    Ok(rows)
}

fn row(name: &'static str, what: &str, unit: Unit) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        ..Row::failed(name, "")
    }
}

fn absences(absent: &Measure) -> Vec<Row> {
    let rows = [
        row(
            "apply",
            "applying one record, instructions",
            Unit::Instructions,
        ),
        row("growth", "growth", Unit::Times),
    ];
    let without = |row| Row {
        fdtrace: absent.clone(),
        ..row
    };
    rows.map(without).to_vec()
}

/// Instructions for one record: how many more there are with more rounds.
fn cost(valgrind: &Path, apply: &Path, size: Size) -> Result<f64> {
    let (once, records) = count(valgrind, apply, size, 1)?;
    let (more, _) = count(valgrind, apply, size, 1 + size.rounds)?;
    let further = as_f64(more) - as_f64(once);
    Ok(further / (as_f64(records) * f64::from(size.rounds)))
}

/// Instructions of the whole program, and the records of one round.
fn count(valgrind: &Path, apply: &Path, size: Size, rounds: u32) -> Result<(u64, u64)> {
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(apply);
    let sizes = [size.tables, size.fds, size.records, rounds];
    command.args(sizes.map(|size| size.to_string()));
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", valgrind.display()))?;
    let (told, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let failed = || {
        format!(
            "`{}` ended with {}: {said}",
            command::text(&command),
            output.status
        )
    };
    let records = records(&told).filter(|_| output.status.success());
    Ok((
        collected(&said).with_context(failed)?,
        records.with_context(failed)?,
    ))
}

/// What callgrind says at the end: `==7== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let lines = said
        .lines()
        .filter_map(|line| line.split_once("Collected : "));
    let (_, number) = lines.into_iter().next()?;
    number.trim().parse().ok()
}

fn records(told: &str) -> Option<u64> {
    let facts: serde_json::Value = serde_json::from_str(told).ok()?;
    facts["records"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_count_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 5226012\n==7== \n";
        assert_eq!(collected(said), Some(5_226_012));
        assert_eq!(collected("==7== killed\n"), None);
    }

    #[test]
    fn records_are_told_as_json() {
        assert_eq!(records("{\"records\":1002,\"rounds\":1}\n"), Some(1_002));
        assert_eq!(records(""), None);
    }
}
