//! `fdtrace leaks --fail -- COMMAND`: what a command leaves open decides.

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use libtest_mimic::Trial;
use rustix::process::{Resource, getpriority_process, getrlimit};
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{self, Gym},
    tracer::{self, Tracer},
    trial,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("leaks::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("of_a_process_that_is_full", already_full),
        test("where_sockets_lead_to_within_a_second", ends_in_time),
    ];
    // What a child is given depends on no kernel and no backend, and the script wants the usual tools.
    if !setting.is_guest {
        trials.push(test("of_a_command_that_ends_with_fdtrace", ends_too));
    }
    trials.extend(if setting.sees_inside_calls() {
        vec![
            test("of_a_command_that_leaves_three", leaves_three),
            test("of_a_command_that_closes_all", closes_all),
        ]
    } else {
        vec![test("of_a_command_too_quick_to_judge", too_quick)]
    });
    trials
}

/// All has been leaked before fdtrace comes: that is no block of nothing.
fn already_full(setting: &Setting) -> Result<(), String> {
    let mut holder = gym::command("hold");
    holder.args(["--wait", "--count", "61", "--limit", "64"]);
    let (mut holder, pid) = Gym::start_waiting(holder)?;
    holder.release()?;
    holder.held()?;
    let mut command = tracer::command();
    command.args(["leaks", "--json", "--backend", &setting.backend]);
    command.args(["-p", &pid.to_string(), "-i", "1", "-d", "3"]);
    let output = command
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().map(serde_json::from_str::<Value>);
    let rows = rows.collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| format!("{error}: {text}"))?;
    let before = rows.iter().find(|row| row["type"] == "open_before");
    let before = before.ok_or_else(|| format!("no such row: {text}"))?;
    let told = ["pid", "open", "closed", "used", "limit"].map(|name| before[name].as_u64());
    let expected = [u64::from(pid), 64, 0, 64, 64].map(Some);
    ensure(told == expected, || before.to_string())?;
    let counts = before["holders"].as_array().into_iter().flatten();
    let sum: u64 = counts.filter_map(|holder| holder["count"].as_u64()).sum();
    ensure(sum == 64, || before.to_string())?;
    holder.end()
}

/// Connections of this very process, a new one each twentieth of a second: none that is older than a second is without
/// its end, in any block.
fn ends_in_time(setting: &Setting) -> Result<(), String> {
    const CONNECTIONS: usize = 100;
    let said = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let end = listener.local_addr().map_err(said)?;
    let mut command = tracer::command();
    command.args(["leaks", "--json", "--backend", &setting.backend]);
    command.args(["-p", &std::process::id().to_string()]);
    command.args(["--older", "1s", "--interval", "1s"]);
    let tracer = Tracer::start_command(command)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(TcpStream::connect(end).map_err(said)?);
        thread::sleep(Duration::from_millis(50));
    }
    let target = end.to_string();
    let leads_there = |row: &Value| row["kind"] == "tcp" && row["target"] == *target;
    let is_all = |objects: &[Value]| {
        let last = objects.iter().rfind(|row| leads_there(row));
        last.is_some_and(|row| row["count"] == CONNECTIONS)
    };
    tracer.wait_until(is_all)?;
    let ended = tracer.stop()?;
    let without = ended.objects.iter().filter(|row| row["kind"] == "tcp");
    let without: Vec<_> = without
        .filter(|row| row["unknown_ends"] != 0 || row["target"].is_null())
        .collect();
    ensure(without.is_empty(), || format!("{without:#?}"))
}

/// The exit status, fds in each row, and what stderr said.
fn judged(setting: &Setting, script: &str) -> Result<(Option<i32>, Vec<u64>, String), String> {
    let mut command = tracer::command();
    command.args(["leaks", "--json", "--fail", "--backend", &setting.backend]);
    command.args(["--", "sh", "-c", script]);
    let output = command
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().map(serde_json::from_str::<Value>);
    let rows = rows.collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| format!("{error}: {text}"))?;
    let rows = rows.iter().filter(|row| row["type"] == "outstanding");
    let counts = rows.filter_map(|row| row["count"].as_u64()).collect();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), counts, said))
}

/// The command has the priority and the limit that fdtrace was started with, and does not outlive it.
fn ends_too(setting: &Setting) -> Result<(), String> {
    let mut command = tracer::command();
    command.args(["leaks", "-q", "-d", "2s", "--backend", &setting.backend]);
    let script = "nice >&2; ulimit -Sn >&2; echo $$ >&2; exec sleep 600";
    command.args(["--", "sh", "-c", script]);
    let output = command
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().collect();
    let soft = getrlimit(Resource::Nofile).current;
    let soft = soft.map_or("unlimited".to_owned(), |soft| soft.to_string());
    let nice = getpriority_process(None).map_err(|error| error.to_string())?;
    let given = [nice.to_string(), soft];
    ensure(lines.len() > 2 && lines[..2] == given, || {
        format!("{given:?}: {said}")
    })?;
    // A number that nobody has, or somebody else by now.
    let left = std::fs::read(format!("/proc/{}/cmdline", lines[2])).unwrap_or_default();
    ensure(!left.starts_with(b"sleep\x00600"), || {
        format!("{} has outlived fdtrace", lines[2])
    })
}

fn leaves_three(setting: &Setting) -> Result<(), String> {
    let script = "exec 3</dev/null 4</dev/zero 5</dev/zero; exec 6</dev/null 6<&-";
    let judged = judged(setting, script)?;
    let (status, mut counts, said) = judged;
    counts.sort_unstable();
    ensure(status == Some(1) && counts == [1, 2], || {
        format!("{status:?} {counts:?} {said}")
    })
}

fn closes_all(setting: &Setting) -> Result<(), String> {
    let script = "exec 3</dev/null 4</dev/zero; exec 3<&- 4<&-";
    let (status, counts, said) = judged(setting, script)?;
    ensure(status == Some(0) && counts.is_empty(), || {
        format!("{status:?} {counts:?} {said}")
    })
}

/// Nothing is known of it, and that is no success.
fn too_quick(setting: &Setting) -> Result<(), String> {
    let (status, counts, said) = judged(setting, "exec 3</dev/null")?;
    let is_refused = status == Some(2) && said.contains("between two looks");
    ensure(is_refused && counts.is_empty(), || {
        format!("{status:?} {counts:?} {said}")
    })
}
