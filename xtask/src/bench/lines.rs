//! What the stack of an open costs, and the lines of Python in it: on one processor, in whose clock an instruction takes a
//! nanosecond. The stacks are read later, when nothing is timed.

use anyhow::Result;

use super::{
    Options,
    guest::{FDTRACE, Figures, Session},
    plan::Load,
    row::{Measure, Row, Unit},
};
use crate::{kernel::Kernel, test::interpreters, vm::Accelerator};

/// The rows.
pub(crate) const NAMES: &[&str] = &["python"];

/// In the figures: fdtrace where nobody wants stacks.
const NEVER: &str = "fdtrace --stacks never";
/// Opens below so many functions; so few that none is without its stack: a table has 128 a second.
const SHALLOW: &str = "2 functions";
const DEEP: &str = "18 functions";

const SCRIPT: &str = include_str!("python.py");

/// One row.
pub(crate) fn rows(options: &Options) -> Result<Vec<Row>> {
    let kernel = options.kernels.first().copied().unwrap_or(Kernel::V6_1);
    let load = |name: &str, calls: &str| Load {
        name: name.to_owned(),
        command: ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT, calls]
            .map(str::to_owned)
            .to_vec(),
    };
    // Calls beside the first one, and the script itself.
    let loads = vec![load(DEEP, "16"), load(SHALLOW, "0")];
    let mut session = Session::new(options, loads, 1);
    session.add_options(FDTRACE, &["--stacks", "always"]);
    session.add_fdtrace(NEVER, &["--stacks", "never"]);
    session.add_files(interpreters::files()?);
    let figures = session.run(kernel, Accelerator::Counted)?;
    Ok(vec![row(kernel, &figures)])
}

fn row(kernel: Kernel, figures: &Figures) -> Row {
    let more = |load: &str| match figures.cost(NEVER, load) {
        Measure::Figure(before) => figures.cost(FDTRACE, load).map(|cost| cost - before),
        other => other,
    };
    let fdtrace = match more(SHALLOW) {
        Measure::Figure(shallow) => more(DEEP).map(|cost| cost - shallow),
        other => other,
    };
    let peer = "the stack and 2 functions".to_owned();
    Row {
        name: "python",
        what: format!("16 more functions of Python in the stack of an open, {kernel}"),
        unit: Unit::MoreInstructions,
        fdtrace,
        peers: vec![(peer, more(SHALLOW))],
        ratio: None,
        range: None,
    }
}
