//! A server that accepts and closes as fast as clients connect, on two processors: what is left of its
//! throughput.

use anyhow::Result;

use super::{
    Options,
    guest::{FDTRACE, Figures, Session, UNTRACED},
    peers::{BPFTRACE_ACCEPT, STRACE},
    plan::{Load, Ready},
    row::{Measure, Row, Unit},
    statistics,
};
use crate::vm::Accelerator;

const ACCEPT: &str = "accept";

/// The one row, on the first of the kernels.
pub(crate) fn rows(options: &Options) -> Result<Vec<Row>> {
    let kernel = options.kernels[0];
    let count = options.repeat(3_000, 100).to_string();
    let command = ["/bin/gym", "cost_accept", "--count", &count];
    let load = Load {
        name: ACCEPT.to_owned(),
        command: command.map(str::to_owned).to_vec(),
    };
    let mut session = Session::new(options, vec![load], options.repeat(11, 2));
    session.add(STRACE, Ready::Around, &[ACCEPT])?;
    session.add(BPFTRACE_ACCEPT, Ready::Waits, &[ACCEPT])?;
    let figures = session.run(kernel, Accelerator::Tcg)?;
    let left = |tracer: &str| left(&figures, tracer);
    let row = Row {
        name: ACCEPT,
        what: format!("accept+close of a server under load, {kernel}, 2 CPUs, throughput left"),
        unit: Unit::Times,
        fdtrace: left(FDTRACE),
        peers: vec![
            (BPFTRACE_ACCEPT.name.to_owned(), left(BPFTRACE_ACCEPT.name)),
            (STRACE.name.to_owned(), left(STRACE.name)),
        ],
        ratio: None,
        range: statistics::range(rounds(&figures, FDTRACE)),
    };
    Ok(vec![row.compared()])
}

fn left(figures: &Figures, tracer: &str) -> Measure {
    figures.measure(tracer, rounds(figures, tracer))
}

/// Throughput with a tracer as a part of that without one, round by round.
fn rounds(figures: &Figures, tracer: &str) -> Vec<f64> {
    statistics::ratios(
        &figures.each(UNTRACED, ACCEPT),
        &figures.each(tracer, ACCEPT),
    )
}
