//! fdtrace on a real kernel: victims run out of fds, and what it says about them is checked.
//!
//! The same executable runs on the host, where it tests the census backend, and statically linked in
//! guests, where it tests fentry and kprobe. It wants root, and these variables where cargo has not
//! built what it needs beside it:
//!
//! * `FDTRACE_BACKEND`: the backend to force; `census` where it is unset.
//! * `FDTRACE_BIN`, `FDTRACE_GYM`: the executables.
//! * `FDTRACE_FIRST`, `FDTRACE_LAST`: 0 if another backend has had its turn on this kernel, or will have it.
//! * `FDTRACE_KERNEL`: the guest's kernel, where only those tests are to run that need it (see `reach`).
//! * `FDTRACE_SOAK_SECONDS`: how long the soak goes on; there is none where it is unset. Above 300 the long run
//!   takes as long, and runs with fdtrace's real timers.

mod conditions;
mod cookbook;
mod ends;
mod engines;
mod exhaustion;
mod gym;
mod languages;
mod leaks;
mod limits;
mod lines;
mod lives;
mod losses;
mod ls;
mod moment;
mod privilege;
mod programs;
mod reach;
mod record;
mod relieve;
mod remedy;
mod runtimes;
mod scope;
mod script;
mod select;
mod services;
mod shapes;
mod stacks;
mod storm;
mod tables;
mod threads;
mod trace;
mod tracer;
mod verdicts;
mod victim;
mod watchdog;

use std::{env, path::Path, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// What the tests need to know about where they run.
#[derive(Clone, Debug)]
struct Setting {
    backend: String,
    /// A virtual machine of fdtrace's own: the host's settings are nobody else's.
    is_guest: bool,
    /// No other backend has been tested on this kernel: what has nothing to do with backends is tested now.
    is_first: bool,
    /// No other backend will be tested on this kernel: what cannot be undone may be done.
    is_last: bool,
}

impl Setting {
    fn sees_inside_calls(&self) -> bool {
        self.backend != "census"
    }
}

fn main() -> ExitCode {
    // The self-test of fdtrace starts the program that it is part of, which is this one in `engines`.
    if env::args().nth(1).as_deref() == Some("--version") {
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Some tests change settings of the whole host.
    arguments.test_threads = Some(1);
    let setting = Setting {
        backend: env::var("FDTRACE_BACKEND").unwrap_or_else(|_| "census".to_owned()),
        is_guest: env::var_os("FDTRACE_BIN").is_some(),
        is_first: is_set("FDTRACE_FIRST"),
        is_last: is_set("FDTRACE_LAST"),
    };
    let is_root = rustix::process::geteuid().is_root();
    let mut trials = Vec::new();
    trials.extend(exhaustion::trials(&setting));
    trials.extend(storm::trials(&setting));
    trials.extend(lives::trials(&setting));
    trials.extend(moment::trials(&setting));
    trials.extend(scope::trials(&setting));
    trials.extend(ls::trials(&setting));
    trials.extend(tables::trials(&setting));
    trials.extend(engines::trials(&setting));
    trials.extend(threads::trials(&setting));
    trials.extend(trace::trials(&setting));
    trials.extend(stacks::trials(&setting));
    trials.extend(record::trials(&setting));
    trials.extend(remedy::trials(&setting));
    trials.extend(limits::trials(&setting));
    trials.extend(ends::trials(&setting));
    trials.extend(select::trials(&setting));
    trials.extend(relieve::trials(&setting));
    trials.extend(leaks::trials(&setting));
    trials.extend(losses::trials(&setting));
    trials.extend(cookbook::trials(&setting));
    trials.extend(verdicts::trials(&setting));
    trials.extend(shapes::trials(&setting));
    trials.extend(languages::trials(&setting));
    trials.extend(lines::trials(&setting));
    trials.extend(runtimes::trials(&setting));
    trials.extend(programs::trials(&setting));
    trials.extend(services::trials(&setting));
    trials.extend(privilege::trials(&setting));
    trials.extend(conditions::trials(&setting));
    trials = reach::here(trials, &setting.backend);
    if !is_root {
        let skip = |trial: Trial| {
            println!("skipped: {}: needs root", trial.name());
            trial.with_ignored_flag(true)
        };
        trials = trials.into_iter().map(skip).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Set to nothing but 0, or not at all.
fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_none_or(|value| value != "0")
}

/// A test of that name.
fn trial(
    name: impl Into<String>,
    test: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Trial {
    let name = name.into();
    Trial::test(name.clone(), move || {
        watchdog::watched(&name, test).map_err(Failed::from)
    })
}

/// `Err` with what was seen, unless `holds`.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// An executable that a variable names, or that cargo has built.
fn executable(variable: &str, built: Option<&str>) -> String {
    let path = env::var(variable).ok().or_else(|| built.map(str::to_owned));
    let path = path.unwrap_or_else(|| panic!("{variable} is not set"));
    assert!(Path::new(&path).exists(), "{variable}: no {path}");
    path
}
