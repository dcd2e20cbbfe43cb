//! The subcommands, one file each, and what surrounds them: parsing, logging, exit status.

mod doctor;
mod stdout;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser, error::ErrorKind};

use crate::cli::{Cli, Command, RunArgs};

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// 0: done.
    Done,
    /// 1: nothing of what was asked for was found.
    NothingFound,
}

/// The exit status of errors and bad usage.
const ERROR: u8 = 2;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::NothingFound) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(ERROR)
        }
    }
}

fn run(cli: Cli) -> Result<Ended> {
    if stdout::was_closed() {
        bail!("stdout is closed, nothing could be reported: redirect it to a file or a pipe");
    }
    if cli.man_page {
        clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?;
        return Ok(Ended::Done);
    }
    match cli.command.unwrap_or(Command::Watch(cli.watch)) {
        Command::Watch(args) => {
            start_logging(&args.run);
            watch::run(&args)
        }
        Command::Doctor(args) => {
            start_logging(&args.run);
            doctor::run(&args)
        }
    }
}

/// Help and version are no errors; anything else becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return if error.print().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(ERROR)
        };
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or("bad usage");
    say(&format!(
        "{} (see --help)",
        first.strip_prefix("error: ").unwrap_or(first)
    ));
    ExitCode::from(ERROR)
}

/// One line on stderr, whether or not anybody reads it.
fn say(line: &str) {
    let _ = writeln!(
        io::stderr(),
        "fdtrace: {}",
        line.trim_end().replace('\n', " ")
    );
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// -v: what fdtrace does. -vv: what its kernel programs do as well.
fn start_logging(args: &RunArgs) {
    let level = match args.verbose {
        0 => log::LevelFilter::Warn,
        _ => log::LevelFilter::Debug,
    };
    // "fdtrace" covers fdtrace-ebpf; aya's own lines would bury both.
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .filter_module("fdtrace", level)
        .init();
}

/// aya-log's level for the kernel programs: 0 takes their log lines out.
fn kernel_log_level(args: &RunArgs) -> u8 {
    if args.verbose >= 2 {
        aya_log::Level::Debug.into()
    } else {
        0
    }
}
