//! Every test there is, one stage after the other, whatever the stages before found.

mod guests;
pub(crate) mod interpreters;
mod matrix;
mod recorder;
mod tally;

use std::{
    env,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::matrix::Extent;
use self::{recorder::Recorder, tally::Tally};
use crate::{bench, build, command, kernel::Kernel, workspace};

/// Everything but the kernel programs, which no host can run.
const USER_SIDE: [&str; 3] = ["--workspace", "--exclude", "fdtrace-ebpf"];

/// What makes a lint an error.
const DENY: [&str; 2] = ["--", "-Dwarnings"];

/// Runs the stages, or of the tests only those whose name contains the filter; in guests of the kernels named, or else
/// of as many as the extent says. Status 0 if none failed.
pub(crate) fn run(filter: Option<&str>, extent: Extent, kernels: &[Kernel]) -> u8 {
    let guests = matrix::guests(extent, kernels);
    let mut total = Tally::default();
    if filter.is_none() {
        check(&mut total, "format", &["fmt", "--all", "--check"]);
        let user_side = [
            &["clippy", "--quiet", "--all-targets"],
            &USER_SIDE[..],
            &DENY,
        ]
        .concat();
        check(&mut total, "lints", &user_side);
        // By themselves: together with the user side they would be given features that need std.
        let programs = [
            &["clippy", "--quiet", "--bins", "-pfdtrace-ebpf"][..],
            &DENY,
        ]
        .concat();
        check(&mut total, "lints of the kernel programs", &programs);
        // A workspace of their own, which is built here and run by whoever fuzzes.
        let fuzz = [
            &[
                "clippy",
                "--quiet",
                "--bins",
                "--manifest-path=fuzz/Cargo.toml",
            ][..],
            &["--target-dir=target"],
            &DENY,
        ]
        .concat();
        check(&mut total, "fuzz targets", &fuzz);
    }
    stage(&mut total, "unit tests", |recorder| {
        tests(&["--lib", "--bins"], filter, recorder)?;
        tests(&["--doc"], filter, recorder)
    });
    stage(&mut total, "host tests", |recorder| {
        tests(&["--test", "*"], filter, recorder)
    });
    let has = |kernel| guests.iter().any(|guest| guest.kernel == kernel);
    let is_measured = filter.is_none() && extent != Extent::Quick && has(bench::KERNELS[0]);
    guests::stages(&mut total, filter, guests);
    if is_measured {
        benchmark(&mut total, bench::KERNELS[0]);
    }
    print!("{total}");
    u8::from(total.failed > 0)
}

/// A stage that passes or fails as a whole.
fn check(total: &mut Tally, name: &str, arguments: &[&str]) {
    stage(total, name, |recorder| {
        let mut cargo = workspace::cargo();
        // The kernel programs have no unwinder. Said here and not in Cargo.toml, where it would have
        // everything built twice: tests cannot abort.
        if arguments.contains(&"-pfdtrace-ebpf") {
            cargo.env("CARGO_PROFILE_DEV_PANIC", "abort");
        }
        recorded(cargo.args(arguments), recorder)?;
        recorder.tally.passed += 1;
        Ok(())
    });
}

/// The benchmark in short: every row must have its figure, whatever it is. After the guests, beside which
/// nothing can be measured.
fn benchmark(total: &mut Tally, kernel: Kernel) {
    stage(total, "benchmark", |recorder| {
        let mut bench = Command::new(env::current_exe().context("who am I?")?);
        bench.args(["bench", "--quick", "--offline", "--kernel"]);
        recorded(bench.arg(kernel.to_string()), recorder)?;
        recorder.tally.passed += 1;
        Ok(())
    });
}

/// Says what is done and how long it took, and adds up.
fn stage(total: &mut Tally, name: &str, work: impl FnOnce(&mut Recorder) -> Result<()>) {
    println!("\n=== {name}");
    let start = Instant::now();
    let tally = record(name, "", work);
    let verdict = if tally.failed == 0 {
        "passed"
    } else {
        "FAILED"
    };
    println!(
        "=== {name}: {verdict} in {:.1} s",
        start.elapsed().as_secs_f32()
    );
    total.add(tally);
}

/// The tally of one piece of work. Its failure counts even if no test of it was seen to fail.
fn record(name: &str, prefix: &str, work: impl FnOnce(&mut Recorder) -> Result<()>) -> Tally {
    let mut recorder = match Recorder::create(name, prefix) {
        Ok(recorder) => recorder,
        Err(error) => return Tally::failure(format!("{name}: {error:#}")),
    };
    let result = work(&mut recorder);
    let mut tally = recorder.finish();
    if let Err(error) = result {
        println!("{prefix}{error:#}");
        if tally.failed == 0 {
            let first_line = format!("{error:#}")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            tally.add(Tally::failure(format!("{name}: {first_line}")));
        }
    }
    tally
}

fn tests(targets: &[&str], filter: Option<&str>, recorder: &mut Recorder) -> Result<()> {
    let mut cargo = workspace::cargo();
    // For the tests that run out of descriptors on this machine.
    cargo.env("FDTRACE_GYM", build::gym()?);
    cargo
        .args(["test", "--no-fail-fast"])
        .args(USER_SIDE)
        .args(targets);
    // One line for each test, from both kinds of harness.
    recorded(cargo.args(["--", "--format=pretty"]).args(filter), recorder)
}

/// Runs the command with both its outputs going to the recorder, in the order of writing.
fn recorded(command: &mut Command, recorder: &mut Recorder) -> Result<()> {
    let text = command::text(command);
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let stderr = writer.try_clone().context("cannot make a pipe")?;
    let spawned = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .spawn();
    // The pipe ends when the last writer is closed, and the command keeps two of them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.with_context(|| format!("cannot start `{text}`"))?;
    std::io::copy(&mut reader, recorder).with_context(|| format!("cannot read from `{text}`"))?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed: {status}");
    }
    Ok(())
}
