//! What a system call costs more with a tracer beside it, in instructions, its reader's included: a guest
//! with one processor, in whose clock an instruction takes a nanosecond.

use anyhow::{Context as _, Result};

use super::{
    Options,
    guest::{FDTRACE, Figures, Session},
    peers::{
        BPFTRACE_COUNT, BPFTRACE_EMFILE, BPFTRACE_MAP, BPFTRACE_ONE_LINER, OPENSNOOP, Peer,
        SYSCOUNT,
    },
    plan::{Load, Ready},
    row::{Measure, Row, Unit},
};
use crate::{kernel::Kernel, vm::Accelerator};

/// The rows.
pub(crate) const NAMES: &[&str] = &[
    "getppid",
    "open_close",
    "dup_close",
    "emfile",
    "fork_exit",
    "start",
    "base",
];

/// An operation that `gym` times.
struct Operation {
    /// The row, and with `cost_` before it the scenario.
    name: &'static str,
    what: &'static str,
    /// Enough for the reader to have its turn several times: it comes every fifty million instructions.
    count: u64,
    quick: u64,
    /// Who is asked the same, the first one as what is closest to what fdtrace does.
    peers: &'static [Peer],
}

const OPERATIONS: [Operation; 4] = [
    Operation {
        name: "getppid",
        what: "a call that touches no fd (getppid)",
        // What fdtrace does once a second, some four million instructions, is not to look like a cost of each.
        count: 1_000_000,
        quick: 2_000,
        peers: &[
            SYSCOUNT,
            OPENSNOOP,
            BPFTRACE_MAP,
            BPFTRACE_EMFILE,
            BPFTRACE_COUNT,
        ],
    },
    Operation {
        name: "open_close",
        what: "open+close",
        count: 40_000,
        quick: 400,
        peers: &[
            BPFTRACE_MAP,
            OPENSNOOP,
            SYSCOUNT,
            BPFTRACE_EMFILE,
            BPFTRACE_COUNT,
        ],
    },
    Operation {
        name: "dup_close",
        what: "dup+close",
        count: 200_000,
        quick: 2_000,
        peers: &[
            BPFTRACE_MAP,
            OPENSNOOP,
            SYSCOUNT,
            BPFTRACE_EMFILE,
            BPFTRACE_COUNT,
        ],
    },
    Operation {
        name: "emfile",
        what: "a failing dup (EMFILE)",
        count: 400_000,
        quick: 4_000,
        peers: &[
            SYSCOUNT,
            BPFTRACE_EMFILE,
            OPENSNOOP,
            BPFTRACE_MAP,
            BPFTRACE_COUNT,
        ],
    },
];

/// Not an operation like the others: the process has so many fds.
const FORK_EXIT: &str = "fork_exit";
const FORK_EXIT_FDS: u32 = 10_000;

/// All rows, kernel by kernel.
pub(crate) fn rows(options: &Options) -> Result<Vec<Row>> {
    let kernels = options.repeat(options.kernels.as_slice(), &options.kernels[..1]);
    let mut rows = Vec::new();
    for kernel in kernels {
        let context = || format!("measuring on kernel {kernel}");
        rows.extend(on(options, *kernel).with_context(context)?);
    }
    // The same figure on all kernels side by side, in the order of the names.
    rows.sort_by_key(|row: &Row| NAMES.iter().position(|name| *name == row.name));
    Ok(rows)
}

fn on(options: &Options, kernel: Kernel) -> Result<Vec<Row>> {
    let operations: Vec<_> = OPERATIONS
        .iter()
        .filter(|operation| options.wants(operation.name))
        .collect();
    let mut loads: Vec<Load> = operations
        .iter()
        .map(|operation| load(operation, options))
        .collect();
    if options.wants(FORK_EXIT) {
        loads.push(fork_exit(options));
    }
    let mut session = Session::new(options, loads, 1);
    let names: Vec<&str> = operations.iter().map(|operation| operation.name).collect();
    for peer in [
        OPENSNOOP,
        SYSCOUNT,
        BPFTRACE_COUNT,
        BPFTRACE_EMFILE,
        BPFTRACE_MAP,
    ] {
        session.add(peer, Ready::Waits, &names)?;
    }
    if options.wants("start") {
        session.add(BPFTRACE_ONE_LINER, Ready::Waits, &[])?;
    }
    // What the kernel still does after its start has ended by now, which the first time shows.
    session.add_untraced();
    let figures = session.run(kernel, Accelerator::Counted)?;
    let mut rows: Vec<Row> = operations
        .iter()
        .map(|operation| more(operation, kernel, &figures))
        .collect();
    rows.push(forks(kernel, &figures));
    rows.push(start(kernel, &figures));
    rows.push(base(kernel, &figures));
    Ok(rows)
}

fn load(operation: &Operation, options: &Options) -> Load {
    let count = options.repeat(operation.count, operation.quick);
    let command = [
        "/bin/gym",
        &format!("cost_{}", operation.name),
        "--count",
        &count.to_string(),
    ];
    Load {
        name: operation.name.to_owned(),
        command: command.map(str::to_owned).to_vec(),
    }
}

fn fork_exit(options: &Options) -> Load {
    let count = options.repeat(40, 2);
    // A guest's first process may have fewer.
    let script =
        format!("ulimit -n {FORK_EXIT_FDS} && exec /bin/gym cost_fork_exit --count {count}");
    Load {
        name: FORK_EXIT.to_owned(),
        command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
    }
}

/// The difference to what it costs without any tracer, in the same boot.
fn more(operation: &Operation, kernel: Kernel, figures: &Figures) -> Row {
    let name = operation.name;
    let untraced = figures.untraced(name);
    let more = |tracer: &str| match untraced.figure() {
        Some(before) => figures.cost(tracer, name).map(|cost| cost - before),
        None => untraced.clone(),
    };
    let alone = untraced
        .figure()
        .map_or(String::new(), |cost| format!(", {cost:.0} untraced"));
    Row {
        name,
        what: format!("{}, {kernel}{alone}", operation.what),
        unit: Unit::MoreInstructions,
        fdtrace: more(FDTRACE),
        peers: operation
            .peers
            .iter()
            .map(|peer| (peer.name.to_owned(), more(peer.name)))
            .collect(),
        ratio: None,
        range: None,
    }
    .compared()
}

fn forks(kernel: Kernel, figures: &Figures) -> Row {
    let untraced = figures.untraced(FORK_EXIT);
    let fdtrace = match untraced.figure() {
        Some(before) => figures.cost(FDTRACE, FORK_EXIT).map(|cost| cost / before),
        None => untraced,
    };
    Row {
        name: FORK_EXIT,
        what: format!("fork+exit with {FORK_EXIT_FDS} fds, {kernel}"),
        unit: Unit::Times,
        fdtrace,
        peers: Vec::new(),
        ratio: None,
        range: None,
    }
}

/// By the guest's clock: an instruction takes a nanosecond, waiting for the kernel as long as it takes.
fn start(kernel: Kernel, figures: &Figures) -> Row {
    let milliseconds = |tracer: &str| figures.start(tracer).map(|ns| ns / 1e6);
    let of = |peer: Peer| (peer.name.to_owned(), milliseconds(peer.name));
    let bpfcc = "it compiles with clang, headers and Python, none of which a guest has";
    Row {
        name: "start",
        what: format!("start until armed, {kernel}"),
        unit: Unit::Milliseconds,
        fdtrace: milliseconds(FDTRACE),
        peers: vec![
            of(BPFTRACE_ONE_LINER),
            of(OPENSNOOP),
            (
                "opensnoop-bpfcc".to_owned(),
                Measure::NotMeasured(bpfcc.to_owned()),
            ),
        ],
        ratio: None,
        range: None,
    }
    .compared()
}

/// After the loads: what was made for them is in it.
fn base(kernel: Kernel, figures: &Figures) -> Row {
    let megabytes = |tracer: &str| figures.memory(tracer).map(|bytes| bytes / 1e6);
    let of = |peer: Peer| (peer.name.to_owned(), megabytes(peer.name));
    Row {
        name: "base",
        what: format!("memory of a tracer, after these loads, {kernel}"),
        unit: Unit::Megabytes,
        fdtrace: megabytes(FDTRACE),
        peers: vec![of(OPENSNOOP), of(SYSCOUNT), of(BPFTRACE_COUNT)],
        ratio: None,
        range: None,
    }
    .compared()
}
