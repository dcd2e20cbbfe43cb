//! The subcommands, one file each, and what surrounds them: parsing, logging, exit status.

mod audit;
mod called;
mod completions;
mod doctor;
mod finish;
mod follow;
mod leaks;
mod ls;
mod man;
mod own;
mod record;
mod relieve;
mod replay;
mod round;
mod stdout;
mod trace;
mod troubles;
mod wanted;
mod watch;
mod what_runs;

use std::{
    io::{self, Write},
    iter,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow};
use clap::Parser;

use crate::{
    cli::{Cli, Command, RunArgs},
    enrich::stacks::reader::serve_if_asked,
    report::{sanitize::one_line, say::say},
    timers,
};

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// 0: done.
    Done,
    /// 1: nothing of what was asked for was found, or it was refused.
    NothingFound,
}

/// The exit status of errors and bad usage.
const ERROR: u8 = 2;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // What a library says when it panics over a damaged file is in part that file's.
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    if serve_if_asked() {
        return ExitCode::SUCCESS;
    }
    completions::answer_if_asked();
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(answer) if !answer.use_stderr() => print_answer(&answer),
        Err(error) => Err(usage_error(&error)),
    };
    match outcome {
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
    stdout::check()?;
    if let Some(command) = cli.man_page {
        return man::run(&command);
    }
    match cli.command.unwrap_or(Command::Watch(cli.watch)) {
        Command::Watch(args) => {
            prepare(&args.run);
            watch::run(&args)
        }
        Command::Audit(args) => {
            prepare(&args.run);
            audit::run(&args)
        }
        Command::Trace(args) => {
            prepare(&args.run);
            trace::run(&args)
        }
        Command::Leaks(args) => {
            prepare(&args.run);
            leaks::run(&args)
        }
        Command::Ls(args) => {
            prepare(&args.run);
            ls::run(&args)
        }
        Command::Record(args) => {
            prepare(&args.run);
            record::run(&args)
        }
        Command::Relieve(args) => {
            prepare(&args.run);
            relieve::run(&args)
        }
        Command::Doctor(args) => {
            prepare(&args.run);
            doctor::run(&args)
        }
        Command::Completions(args) => print_all(|output| completions::print(args.shell, output)),
    }
}

/// Help and version.
fn print_answer(answer: &clap::Error) -> Result<Ended> {
    stdout::check()?;
    print_all(|_| answer.print())
}

/// clap's explanation of a bad command line is several paragraphs: the first says what is wrong, a tip what
/// may have been meant. What is left out is the usage.
fn usage_error(error: &clap::Error) -> anyhow::Error {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim);
    let problem: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let problem = problem.join(" ");
    let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
    let tips = lines.filter_map(|line| line.strip_prefix("tip: "));
    let parts: Vec<_> = iter::once(problem).chain(tips).collect();
    anyhow!("{} (see --help)", parts.join("; "))
}

/// Has stdout written to, and finds out whether all of it arrived.
fn print_all(print: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<Ended> {
    let mut output = io::stdout().lock();
    print(&mut output)
        .and_then(|()| output.flush())
        .context("writing to stdout")?;
    Ok(Ended::Done)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// What every command begins with.
fn prepare(args: &RunArgs) {
    start_logging(args);
    timers::shorten(args.time_scale);
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
        .format(|output, record| {
            // Paths and names of traced processes are in some of them.
            let message = one_line(&record.args().to_string());
            writeln!(
                output,
                "[{} {} {}] {message}",
                output.timestamp(),
                record.level(),
                record.target()
            )
        })
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
