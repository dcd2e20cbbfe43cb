//! Listing what is open, against lsof and lsfd on this machine: wall time as a ratio within one run, memory
//! at its peak. And what the model takes for an fd.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    Options,
    guest::as_f64,
    peers,
    row::{Measure, Row, Unit},
    statistics,
};
use crate::{build, command, workspace};

/// The rows.
pub(crate) const NAMES: &[&str] = &["memory", "ls_count", "ls_targets"];

/// Fds of one process: a hard limit of 20 000 has room for them.
const PER_PROCESS: u64 = 15_000;

/// What lists fds.
struct Lister {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// All rows.
pub(crate) fn rows(options: &Options) -> Result<Vec<Row>> {
    let fds = options.repeat(100_000, 2_000);
    let fdtrace = if options.quick {
        build::fdtrace()?
    } else {
        build::release()?
    };
    let ours = |arguments| Lister {
        name: "fdtrace",
        program: fdtrace.clone(),
        arguments,
    };
    let (lsof, lsfd) = (
        peer("lsof -nP", "lsof", "lsof", &["-nP"]),
        peer("lsfd", "lsfd", "util-linux-extra", &[]),
    );
    let folder = Folder::create()?;
    let holders = Holders::start(&folder.0, fds)?;
    let pairs = options.repeat(5, 1);
    let mut rows = Vec::new();
    for (name, what, arguments) in [
        ("ls_count", "ls --count", &["ls", "--count"][..]),
        ("ls_targets", "ls with all targets", &["ls"]),
    ] {
        if options.wants(name) {
            let what = format!("{what}, {fds} fds");
            rows.push(compare(
                name,
                what,
                &ours(arguments),
                [&lsof, &lsfd],
                pairs,
            )?);
        }
    }
    if options.wants("memory") {
        let peak = |lister: &Result<Lister, (&'static str, Measure)>| match lister {
            Ok(lister) => peak(lister).map(|bytes| {
                let name = format!("{}, {:.0} MB at its peak", lister.name, as_f64(bytes) / 1e6);
                (name, Measure::Figure(as_f64(bytes) / as_f64(fds)))
            }),
            Err((name, absent)) => Ok(((*name).to_owned(), absent.clone())),
        };
        let peers = vec![peak(&lsof)?, peak(&lsfd)?];
        rows.insert(0, memory(options, peers)?);
    }
    holders.end()?;
    Ok(rows)
}

fn peer(
    name: &'static str,
    program: &str,
    package: &str,
    arguments: &'static [&'static str],
) -> Result<Lister, (&'static str, Measure)> {
    let program = peers::find(program, package).map_err(|absent| (name, absent))?;
    Ok(Lister {
        name,
        program,
        arguments,
    })
}

/// One after the other, several times: whatever else the machine does meets all of them alike.
fn compare(
    name: &'static str,
    what: String,
    ours: &Lister,
    peers: [&Result<Lister, (&'static str, Measure)>; 2],
    pairs: usize,
) -> Result<Row> {
    let mut own = Vec::new();
    let mut others = vec![Vec::new(); peers.len()];
    for _ in 0..pairs {
        own.push(time(ours)?);
        for (lister, times) in peers.iter().zip(&mut others) {
            if let Ok(lister) = lister {
                times.push(time(lister)?);
            }
        }
    }
    let ratios = statistics::ratios(&others[0], &own);
    let middle = |times: &[f64]| {
        let median = statistics::median(times.to_vec());
        median.map_or(
            Measure::Failed("no time was taken".to_owned()),
            Measure::Figure,
        )
    };
    let peers = peers
        .iter()
        .zip(&others)
        .map(|(lister, times)| match lister {
            Ok(lister) => (lister.name.to_owned(), middle(times)),
            Err((name, absent)) => ((*name).to_owned(), absent.clone()),
        });
    Ok(Row {
        name,
        what,
        unit: Unit::Milliseconds,
        fdtrace: middle(&own),
        peers: peers.collect(),
        ratio: statistics::median(ratios.clone()),
        range: statistics::range(ratios),
    })
}

/// Milliseconds of the whole process.
fn time(lister: &Lister) -> Result<f64> {
    let mut command = Command::new(&lister.program);
    command.args(lister.arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output();
    let elapsed = start.elapsed();
    let output = output.with_context(|| format!("cannot start {}", lister.name))?;
    // lsof ends with 1 where it could not look at everything.
    if lister.name == "fdtrace" && !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}: {said}",
            command::text(&command),
            output.status
        );
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// Bytes of memory that it had at most: asked for while it waits for its output to be read, up to the last
/// of it.
fn peak(lister: &Lister) -> Result<u64> {
    let mut command = Command::new(&lister.program);
    command.args(lister.arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", lister.name))?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let mut buffer = vec![0; 64 << 10];
    while stdout.read(&mut buffer).context("reading a list")? > 0 {
        // After its end there is no line.
        peak = peak.max(high_water(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or(0));
    }
    child.wait().context("waiting for a lister")?;
    ensure!(peak > 0, "{} has listed nothing", lister.name);
    Ok(peak)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The model with so many fds in tables of a thousand each, and nothing else.
fn memory(options: &Options, peers: Vec<(String, Measure)>) -> Result<Row> {
    const PER_TABLE: u64 = 1_000;
    let fds: u64 = options.repeat(1_000_000, 20_000);
    let tables = fds / PER_TABLE;
    let mut apply = Command::new(build::apply(!options.quick)?);
    apply.args([tables, PER_TABLE, 0, 0].map(|number| number.to_string()));
    let told = command::output(&mut apply)?;
    let facts: Value = serde_json::from_str(&told).context("apply told no JSON")?;
    let number = |name: &str| {
        let number = facts[name].as_u64();
        number.with_context(|| format!("apply told no {name}"))
    };
    let grown = number("resident_after")?.saturating_sub(number("resident_before")?);
    let row = Row {
        name: "memory",
        what: format!("memory for a live fd, {fds} fds"),
        unit: Unit::Bytes,
        fdtrace: Measure::Figure(as_f64(grown) / as_f64(number("open")?)),
        peers,
        ratio: None,
        range: None,
    };
    Ok(row.compared())
}

/// Where the files are that holders have open; gone with it.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = workspace::target().join(format!("bench-files-{}", process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the target folder and harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Processes that have files open and do nothing.
struct Holders(Vec<(Child, ChildStdin)>);

impl Holders {
    /// When it returns, all is open.
    fn start(folder: &Path, fds: u64) -> Result<Self> {
        let gym = build::gym()?;
        let mut holders = Self(Vec::new());
        let mut left = fds;
        while left > 0 {
            let count = left.min(PER_PROCESS);
            left -= count;
            let mut holder = Command::new(&gym);
            let (count, limit) = (count.to_string(), (count + 16).to_string());
            holder.args(["hold_mixed", "--count", &count, "--limit", &limit]);
            holder.current_dir(folder);
            let mut child = holder
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start gym")?;
            let stdin = child.stdin.take().context("no stdin")?;
            let stdout = child.stdout.take().context("no stdout")?;
            holders.0.push((child, stdin));
            let mut line = String::new();
            BufReader::new(stdout)
                .read_line(&mut line)
                .context("reading from gym")?;
            ensure!(
                line.contains("\"ok\":true"),
                "gym could not open {count} files: {line}"
            );
        }
        Ok(holders)
    }

    fn end(self) -> Result<()> {
        for (mut child, stdin) in self.0 {
            drop(stdin);
            let status = child.wait().context("waiting for gym")?;
            ensure!(status.success(), "gym ended with {status}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::high_water;

    #[test]
    fn the_peak_is_in_bytes() {
        let status = "Name:\tlsof\nVmHWM:\t  12345 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(high_water(status), Some(12_345 * 1024));
        assert_eq!(high_water("Name:\tlsof\nState:\tZ (zombie)\n"), None);
    }
}
