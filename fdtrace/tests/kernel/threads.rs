//! Tables and the threads of a process: one whose first thread has exited, one whose threads have tables of
//! their own.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Setting, ensure, gym, tracer, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("threads::{name}"), move || test(&setting))
    };
    vec![
        test("leader_exited_is_listed_once", listed_once),
        test("leader_exited_is_warned_of_once", warned_of_once),
        test("leader_exited_is_audited_once", audited_once),
        test("leader_exited_may_leak", may_leak),
        test("leader_exited_has_its_paths", has_its_paths),
        test("own_table_is_marked", own_table_is_marked),
    ]
}

/// A victim whose first thread has exited, four threads living on with 60 fds of a limit of 64.
fn leader_exited() -> Result<(gym::Gym, gym::Facts), String> {
    let mut command = gym::command("leader_exited");
    command.args(["--count", "57"]);
    let mut victim = gym::Gym::start(command)?;
    let facts = victim.held()?;
    ensure(facts.tid != facts.pid && facts.used == 60, || {
        format!("{facts:?}")
    })?;
    Ok((victim, facts))
}

/// What fdtrace writes with these arguments.
fn written(arguments: &[&str]) -> Result<String, String> {
    let output = tracer::command().args(arguments).output();
    let output = output.map_err(|error| format!("fdtrace: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(output.status.success(), || format!("{output:?}"))?;
    Ok(text)
}

fn objects(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let text = written(arguments)?;
    let objects = text.lines().map(serde_json::from_str);
    objects
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{error}: {text}"))
}

fn listed_once(_: &Setting) -> Result<(), String> {
    let (victim, facts) = leader_exited()?;
    let pid = facts.pid.to_string();
    let files = objects(&["ls", "--json", "-p", &pid])?;
    let counts = objects(&["ls", "--json", "--count", "-p", &pid])?;
    let with_holders = objects(&["ls", "--json", "--count", "--holders", "-p", &pid])?;
    let text = written(&["ls", "--count", "-p", &pid])?;
    victim.end()?;
    let mut numbers: Vec<_> = files
        .iter()
        .filter_map(|file| file["fd"].as_u64())
        .collect();
    numbers.sort_unstable();
    ensure(numbers == (0..60).collect::<Vec<_>>(), || {
        format!("{numbers:?}")
    })?;
    for counts in [counts, with_holders] {
        let [table] = &counts[..] else {
            return Err(format!("{counts:#?}"));
        };
        // Under /proc, the table is now to be found at the thread's number alone.
        let is_right = table["used"] == 60 && table["open"] == 60 && table["tid"] != table["pid"];
        ensure(is_right, || table.to_string())?;
    }
    let rows = text.lines().skip(1);
    ensure(
        rows.clone().count() == 1 && rows.clone().all(|row| row.contains(" [thread ")),
        || text.clone(),
    )
}

fn warned_of_once(setting: &Setting) -> Result<(), String> {
    let (victim, facts) = leader_exited()?;
    let pid = facts.pid.to_string();
    let tracer = Tracer::start(&setting.backend, &["-p", &pid])?;
    let of_it = |object: &Value| object["type"] == "near_limit" && object["pid"] == facts.pid;
    tracer.wait_for(of_it)?;
    // One more look at all tables: what is past the mark by then is reported with it.
    let (second, other) = leader_exited()?;
    let all = Tracer::start(&setting.backend, &["-p", &other.pid.to_string()])?;
    all.wait_for(|object| object["type"] == "near_limit")?;
    all.stop()?;
    second.end()?;
    let ended = tracer.stop()?;
    victim.end()?;
    let warnings = ended.objects.iter().filter(|object| of_it(object)).count();
    ensure(warnings == 1, || format!("{warnings} warnings"))
}

fn audited_once(setting: &Setting) -> Result<(), String> {
    let (victim, facts) = leader_exited()?;
    let pid = facts.pid.to_string();
    let audit = [
        "audit",
        "--json",
        "--all",
        "-d",
        "1",
        "-p",
        &pid,
        "--backend",
    ];
    let seen = objects(&[&audit[..], &[&setting.backend]].concat())?;
    victim.end()?;
    let tables = seen.iter().filter(|object| object["type"] == "process");
    let summary = seen.last().ok_or("nothing")?;
    let is_right = tables.count() == 1
        && summary["fds"] == 60
        && summary["processes"] == 1
        && summary["tables"] == 1;
    ensure(is_right, || format!("{seen:#?}"))
}

/// Paths come from /proc, where such a process has files in its living threads' folders only.
fn has_its_paths(setting: &Setting) -> Result<(), String> {
    let (victim, facts) = leader_exited()?;
    let pid = facts.pid.to_string();
    let tracer = Tracer::start(&setting.backend, &["-p", &pid])?;
    let warning = tracer.wait_for(|object| object["type"] == "near_limit")?;
    tracer.stop()?;
    victim.end()?;
    let own = std::fs::canonicalize(crate::executable("FDTRACE_GYM", None));
    let own = own.map_err(|error| format!("gym: {error}"))?;
    let mut holders = warning["holders"].as_array().into_iter().flatten();
    ensure(
        holders.any(|holder| holder["target"] == own.display().to_string()),
        || format!("not {}: {warning:#}", own.display()),
    )
}

/// What such a process has opened is outstanding like any other's.
fn may_leak(setting: &Setting) -> Result<(), String> {
    let mut command = tracer::command();
    command.args(["leaks", "--json", "--older", "1s", "--interval", "1s"]);
    command.args(["--comm", "gym", "--backend", &setting.backend]);
    let leaks = Tracer::start_command(command)?;
    let (victim, facts) = leader_exited()?;
    let is_its = |row: &Value| row["type"] == "outstanding" && row["pid"] == facts.pid;
    // Stacks may have been taken of some of them only: that is a row of its own.
    leaks.wait_until(|objects| {
        let mut counts = BTreeMap::<&str, u64>::new();
        // One of the 57 is a file.
        let devices = objects.iter().filter(|row| row["kind"] == "char");
        for row in devices.filter(|row| is_its(row)) {
            let block = row["time"].as_str().unwrap_or_default();
            *counts.entry(block).or_default() += row["count"].as_u64().unwrap_or_default();
        }
        counts.values().any(|count| *count == 56)
    })?;
    let ended = leaks.stop()?;
    victim.end()?;
    let mut rows = ended.objects.iter().filter(|row| is_its(row));
    ensure(rows.all(|row| row["comm"] == "gym"), || {
        format!("{:#?}", ended.objects.last())
    })
}

/// A thread that has left its process's table has a row of its own, which says so.
fn own_table_is_marked(_: &Setting) -> Result<(), String> {
    let mut command = gym::command("threads_of_own_table");
    command.arg("--hold-until-eof");
    let mut victim = gym::Gym::start(command)?;
    let facts = victim.held()?;
    let text = written(&["ls", "--count", "-p", &facts.pid.to_string()])?;
    victim.end()?;
    let rows: Vec<_> = text.lines().skip(1).collect();
    let mark = format!(" [thread {}]", facts.tid);
    let marked = rows.iter().filter(|row| row.ends_with(&mark)).count();
    ensure(rows.len() == 2 && marked == 1, || text.clone())
}
