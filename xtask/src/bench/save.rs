//! The table as a page of the documentation, with what it was measured on.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{Options, peers, row::Row, table};
use crate::{emulator::Emulator, workspace};

const PAGE: &str = "docs/benchmarks.md";

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench --save`; every figure is one that this run has measured.

* **System calls** are made in a guest whose clock advances by one nanosecond an instruction (QEMU's
  `-icount shift=0,sleep=off`, one processor, `mitigations=off`), so what is counted is instructions, those
  of the tracer's own reader included. A figure is the difference to the same loop in the same boot without any
  tracer. fdtrace is `fdtrace watch`, which follows every fd table.
* The ratio is fdtrace's figure to that of the first peer; for `ls` it is how many times faster fdtrace is.
* **Start** is from exec until the tracer is attached and waits for events, by the same clock: instructions, and
  what the kernel has it wait for.
* **fork+exit** is the same loop's time with fdtrace as a multiple of that without, its reader included.
* **Throughput** and **ls** are by the clock on the wall, on a machine that has other work, and guests are emulated: the
  figure is the median of rounds in which all take their turn, and behind the verdict is where the true median lies with
  at least 93 % certainty. A goal within that range is neither met nor missed: it is unclear.
* **One record** is a record of a made-up stream (opens and closes, forks and execs), counted by callgrind in the
  model alone.
* **ls** is the median of pairs on one machine, whole processes, their output thrown away.
* **Memory of a tracer** is its resident memory when the loads are over. fdtrace's has the ring buffer in it, 8 MB that
  are mapped twice.
";

/// What figures depend on.
const PACKAGES: [&str; 6] = [
    "bpftrace",
    "libbpf-tools",
    "lsof",
    "strace",
    "util-linux-extra",
    "valgrind",
];

/// Writes the page.
pub(crate) fn save(options: &Options, rows: &[Row]) -> Result<()> {
    let mut page = format!("{HEAD}\n{}\n## Versions\n\n", table::markdown(rows));
    for kernel in &options.kernels {
        let package = kernel
            .package()
            .unwrap_or_else(|| "of unknown origin".to_owned());
        let _ = writeln!(page, "* kernel {kernel}: {package}");
    }
    for package in PACKAGES {
        let version = peers::version(package).unwrap_or_else(|| "not installed".to_owned());
        let _ = writeln!(page, "* {package} {version}");
    }
    let _ = writeln!(page, "* QEMU {}", Emulator::get()?.version());
    let path = workspace::root().join(PAGE);
    fs::create_dir_all(path.parent().context("the page has no folder")?)
        .and_then(|()| fs::write(&path, page))
        .with_context(|| format!("cannot write {PAGE}"))?;
    eprintln!("xtask: the table is in {PAGE}");
    Ok(())
}
