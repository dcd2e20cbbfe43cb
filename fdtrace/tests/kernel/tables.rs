//! `fdtrace audit` follows victims that change their tables in every way there is, and must have got all
//! of them right; under loss it must say so and be right in the end.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::{
    process::Signal,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{self, Gym},
    tracer::{self, Ended, Tracer},
    trial,
};

/// A scenario and its arguments.
pub(crate) type Victim = (&'static str, &'static [&'static str]);

/// Scenarios of gym, with what makes them short enough for an emulated machine. All of a group are
/// followed by one audit, and hold still until it is over.
pub(crate) const GROUPS: &[(&str, &[Victim])] = &[
    (
        "slots",
        &[
            ("open_close", &[]),
            ("close_seen", &[]),
            ("dup_kinds", &[]),
            ("failed_opens", &["--count", "20000"]),
            ("accept_eagain", &["--count", "20000"]),
            ("reserved", &[]),
            ("reserved_killed", &[]),
            ("close_range", &[]),
            ("two_threads_one_number", &["--seconds", "2"]),
            ("dup2_over", &["--seconds", "2"]),
        ],
    ),
    ("grow", &[("grow", &["--count", "60000"])]),
    (
        "tables",
        &[
            ("close_range_cloexec", &[]),
            ("close_range_unshare", &[]),
            ("fork_close", &[]),
            ("fork_race", &["--count", "50"]),
            ("shared_table", &[]),
            ("unshare_thread", &[]),
            ("vfork_exec", &[]),
            ("posix_spawn_actions", &[]),
            ("exec_cloexec", &[]),
            ("exec_from_thread", &[]),
            ("exit_threads", &[]),
            ("kill_while_opening", &["--count", "10"]),
            ("fork_exit", &["--count", "1000"]),
            ("pid_reuse", &[]),
        ],
    ),
    (
        "passing",
        &[
            ("receive_many", &[]),
            ("receive_truncated", &[]),
            ("receive_peek", &[]),
            ("pidfd_getfd", &[]),
            ("peer_pidfd", &[]),
            ("io_uring_table", &[]),
            ("kinds", &[]),
        ],
    ),
];

/// How long the soak goes on where the variable is set.
pub(crate) fn soak_time() -> Option<Duration> {
    let seconds = std::env::var("FDTRACE_SOAK_SECONDS").ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let group = |(name, scenarios): &(&str, &'static [Victim])| {
        let setting = setting.clone();
        let scenarios = *scenarios;
        trial(format!("tables::{name}"), move || {
            follow(&setting, scenarios)
        })
    };
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("tables::{name}"), move || test(&setting))
    };
    let mut trials: Vec<Trial> = GROUPS.iter().map(group).collect();
    trials.push(test("start_under_load", start_under_load));
    if setting.sees_inside_calls() {
        trials.push(test("hook_left_out", hook_left_out));
        trials.push(test("ring_too_small", ring_too_small));
        trials.push(test("reader_stopped", reader_stopped));
    }
    if setting.backend == "fentry" {
        trials.push(test("too_much_to_read", too_much_to_read));
    }
    if let Some(time) = soak_time().filter(|_| setting.backend == "fentry") {
        let setting = setting.clone();
        trials.push(trial("tables::soak", move || soak(&setting, time)));
    }
    trials
}

fn audit(setting: &Setting, arguments: &[&str]) -> Result<Tracer, String> {
    let mut command = tracer::command();
    command
        .args(["audit", "--json", "--all", "--backend", &setting.backend])
        .args(arguments);
    Tracer::start_command(command)
}

/// The summary of an audit that must have found nothing wrong.
fn exact(ended: &Ended) -> Result<Value, String> {
    let differences: Vec<_> = ended
        .objects
        .iter()
        .filter(|object| object["type"] == "difference")
        .collect();
    ensure(differences.is_empty(), || {
        format!(
            "{} differences: {:#?}",
            differences.len(),
            &differences[..differences.len().min(5)]
        )
    })?;
    ensure(ended.status.success(), || {
        format!("audit ended with {}: {}", ended.status, ended.stderr)
    })?;
    let summary = ended
        .objects
        .last()
        .filter(|last| last["type"] == "summary");
    summary
        .cloned()
        .ok_or_else(|| format!("no summary: {}", ended.stderr))
}

/// The same where nothing may have been lost either.
fn undisturbed(setting: &Setting, ended: &Ended) -> Result<(), String> {
    let summary = exact(ended)?;
    let is_quiet = summary["lost"] == 0 && summary["repaired"] == 0;
    ensure(is_quiet || !setting.sees_inside_calls(), || {
        format!("{summary}: {}", ended.stderr)
    })
}

/// Room for what a load can do in a guest while its reader waits for a turn on a busy machine.
const ROOMY: [&str; 2] = ["--ring-size", "64M"];

/// One audit over a group of victims.
fn follow(setting: &Setting, scenarios: &[Victim]) -> Result<(), String> {
    let tracer = audit(setting, &ROOMY)?;
    let mut victims = Vec::new();
    for (scenario, arguments) in scenarios {
        let mut command = gym::command(scenario);
        command.args(*arguments);
        let mut victim = Gym::start(command)?;
        let facts = victim
            .held()
            .map_err(|error| format!("{scenario}: {error}"))?;
        if let Some(reason) = &facts.skipped {
            println!("{scenario} cannot be had here: {reason}");
        } else {
            victims.push((scenario, victim, facts));
        }
    }
    let ended = tracer.stop()?;
    undisturbed(setting, &ended)?;
    for (scenario, victim, facts) in victims {
        let is_its = |object: &&Value| {
            object["type"] == "process" && object["pid"] == facts.pid && object["tid"] == facts.tid
        };
        // A thread that shares its process's table has no line of its own.
        let of_process =
            |object: &&Value| object["type"] == "process" && object["pid"] == facts.pid;
        let mut objects = ended.objects.iter();
        let row = objects
            .clone()
            .find(is_its)
            .or_else(|| objects.find(of_process));
        let row =
            row.ok_or_else(|| format!("{scenario}: process {} was not compared", facts.pid))?;
        ensure(
            row["used"] == facts.used && row["open"] == facts.open,
            || format!("{scenario}: {row} instead of {facts:?}"),
        )?;
        victim
            .end()
            .map_err(|error| format!("{scenario}: {error}"))?;
    }
    Ok(())
}

/// Eight processes that do everything at once, until they are told to hold still.
fn churn() -> Result<Gym, String> {
    Ok(Gym::waiting::<&str>("churn", &[])?.0)
}

/// Lets the processes hold still, and waits until they do.
fn hold(load: &mut Gym) -> Result<(), String> {
    load.release()?;
    load.held().map(drop)
}

/// What was open, and what was under way, before fdtrace was there.
///
/// In guests all of it shares one CPU: where another one executes a function that is being patched, QEMU's
/// emulation now and then never gets past the breakpoint (seen as a soft lockup at the function's first
/// byte on 6.1).
fn start_under_load(setting: &Setting) -> Result<(), String> {
    let all = sched_getaffinity(None).map_err(|error| format!("sched_getaffinity: {error}"))?;
    if setting.is_guest {
        let mut first = CpuSet::new();
        first.set(0);
        pin(&first)?;
    }
    // Both inherit where this thread may run.
    let started = churn().and_then(|load| Ok((load, audit(setting, &ROOMY)?)));
    pin(&all)?;
    let (mut load, tracer) = started?;
    sleep(Duration::from_secs(1));
    hold(&mut load)?;
    let ended = tracer.stop()?;
    load.end()?;
    undisturbed(setting, &ended)
}

fn pin(cpus: &CpuSet) -> Result<(), String> {
    sched_setaffinity(None, cpus).map_err(|error| format!("sched_setaffinity: {error}"))
}

/// The backend is not used, and what it would miss is named.
fn hook_left_out(setting: &Setting) -> Result<(), String> {
    let arguments = ["audit", "-d", "1", "--without-hook", "do_dup2", "--backend"];
    let output = tracer::command()
        .args(arguments)
        .arg(&setting.backend)
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(
        output.status.code() == Some(2) && said.contains("dup2 over an open fd"),
        || format!("{}: {said}", output.status),
    )
}

/// A ring that cannot hold what happens between two looks: losses are told, and healed.
fn ring_too_small(setting: &Setting) -> Result<(), String> {
    let tracer = audit(setting, &["--ring-size", "4K"])?;
    let mut load = churn()?;
    sleep(Duration::from_secs(2));
    hold(&mut load)?;
    let ended = tracer.stop()?;
    load.end()?;
    healed(&ended)
}

fn healed(ended: &Ended) -> Result<(), String> {
    let summary = exact(ended)?;
    let count = |name: &str| summary[name].as_u64().unwrap_or(0);
    ensure(
        count("lost") > 0 && count("repaired") > 0 && ended.stderr.contains("lost"),
        || format!("{summary}: {}", ended.stderr),
    )
}

/// fdtrace does not run for five seconds, the load does.
fn reader_stopped(setting: &Setting) -> Result<(), String> {
    let tracer = audit(setting, &["--ring-size", "64K"])?;
    let mut load = churn()?;
    tracer.signal(Signal::STOP)?;
    sleep(Duration::from_secs(5));
    tracer.signal(Signal::CONT)?;
    hold(&mut load)?;
    let ended = tracer.stop()?;
    load.end()?;
    healed(&ended)
}

/// A load that a small ring can never take: most tables are given up by choice, and exact again once there
/// is less to read.
fn too_much_to_read(setting: &Setting) -> Result<(), String> {
    let tracer = audit(setting, &["--ring-size", "4K"])?;
    let mut load = churn()?;
    tracer.wait_until_said("following only")?;
    hold(&mut load)?;
    tracer.wait_until_said("following every table again")?;
    let ended = tracer.stop()?;
    load.end()?;
    exact(&ended).map(drop)
}

/// Everything at once for as long as there is time; memory must not grow with it.
fn soak(setting: &Setting, time: Duration) -> Result<(), String> {
    let tracer = audit(setting, &ROOMY)?;
    let mut load = churn()?;
    let start = Instant::now();
    sleep(time / 3);
    let before = tracer.memory()?;
    sleep(time.saturating_sub(start.elapsed()));
    let after = tracer.memory()?;
    hold(&mut load)?;
    let ended = tracer.stop()?;
    load.end()?;
    undisturbed(setting, &ended)?;
    ensure(after < before + before / 4 + (1 << 20), || {
        format!("{before} bytes of memory became {after}")
    })
}
