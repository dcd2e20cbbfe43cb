//! `gym`: the victim in fdtrace's tests.
//!
//! Each scenario brings a process to its limit in one exact way, checks that the kernel answered
//! as expected, and says what happened in numbers that fdtrace's report has to match. It is
//! linked statically, so that it also runs in guests that have nothing else.

mod cli;
mod ends;
mod keeper;
mod report;
mod run;
mod scenarios;
mod sys;

use std::{
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;

use crate::{
    cli::Options,
    report::{Facts, Skip, say, tell},
    run::Run,
    scenarios::Scenario,
    sys::limits,
};

/// Status for a scenario that cannot be had here.
const SKIPPED: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    gym(options).unwrap_or_else(|error| {
        eprintln!("gym: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs what the command line asks for.
fn gym(options: Options) -> Result<ExitCode> {
    let Some(scenario) = scenarios::find(&options.scenario) else {
        // The command line lets `list` through beside the scenarios, and nothing else.
        scenarios::all().try_for_each(|scenario| say(scenario.name))?;
        return Ok(ExitCode::SUCCESS);
    };
    // After exec, a scenario that is not named after itself is about the name that exec gives.
    let chosen = options.comm.as_ref().map(|comm| comm.as_bytes());
    let chosen = chosen.filter(|_| scenario.named || !options.after_exec);
    let own = scenario.named.then_some(scenario.name.as_bytes());
    if let Some(comm) = chosen.or(own) {
        limits::set_comm(comm).context("cannot set the name")?;
    }
    let name = options.thread.clone();
    let mut run = Run::new(options, scenario.limit)?;
    let outcome = match name {
        Some(name) => in_thread(name.as_bytes(), scenario, &mut run),
        None => (scenario.run)(&mut run),
    };
    match outcome {
        Ok(facts) => {
            tell(scenario.name, facts, true, None)?;
            hold(&run, scenario)?;
            run.finish()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => match error.downcast::<Skip>() {
            Ok(Skip(reason)) => {
                tell(scenario.name, Facts::default(), true, Some(reason))?;
                Ok(ExitCode::from(SKIPPED))
            }
            Err(error) => {
                tell(scenario.name, Facts::default(), false, None)?;
                Err(error.context(scenario.name))
            }
        },
    }
}

/// The scenario in a thread of that name.
fn in_thread(name: &[u8], scenario: &Scenario, run: &mut Run) -> Result<Facts> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            limits::set_comm(name).context("cannot set the name of the thread")?;
            (scenario.run)(run)
        });
        thread
            .join()
            .map_err(|_| anyhow!("the thread has panicked"))?
    })
}

/// Stays around for as long as was asked for, with all that is open still open.
fn hold(run: &Run, scenario: &Scenario) -> Result<()> {
    if let Some(seconds) = run.options.hold {
        thread::sleep(Duration::from_secs(seconds));
    } else if run.options.hold_until_eof || scenario.stays {
        let mut rest = io::stdin().lock();
        while rest.read(&mut [0; 512]).context("standard input")? > 0 {}
    }
    Ok(())
}
