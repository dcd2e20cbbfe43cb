//! Which line of Python has opened an fd: each `CPython` that is installed here, without any option of its own.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    languages::scripts,
    tracer::{self, Tracer},
    trial,
};

/// The distribution's.
const PYTHON: &str = "/usr/bin/python3";
/// What the fifty functions are said to be in.
const FILE: &str = "/made/fifty.py";
/// Versions whose interpreters are read.
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=13;

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let found = interpreters();
    if found.is_empty() || setting.is_guest && !scripts(setting).exists() {
        println!("skipped: lines: there is no Python here");
        return Vec::new();
    }
    let of_each = |(name, path): (String, PathBuf)| {
        let setting = setting.clone();
        trial(format!("lines::of_{name}"), move || right(&setting, &path))
    };
    let mut trials: Vec<_> = found.into_iter().map(of_each).collect();
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("lines::{name}"), move || test(&setting))
    };
    trials.push(test(
        "two_functions_are_two_rows",
        two_functions_are_two_rows,
    ));
    trials.push(test("of_forked_workers", of_forked_workers));
    trials.push(test("of_call_that_fails", of_call_that_fails));
    trials
}

/// The distribution's, and those of pyenv.
fn interpreters() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    if PathBuf::from(PYTHON).exists() {
        found.push(("python3".to_owned(), PYTHON.into()));
    }
    let home = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = home.and_then(|home| std::fs::read_dir(home.join("versions")).ok());
    for folder in versions.into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let minor = name
            .strip_prefix("3.")
            .and_then(|rest| rest.split('.').next());
        let minor = minor.and_then(|minor| minor.parse().ok());
        let path = folder.path().join("bin/python3");
        if minor.is_some_and(|minor| VERSIONS.contains(&minor)) && path.exists() {
            found.push((format!("cpython_{}", name.replace('.', "_")), path));
        }
    }
    found.sort();
    found
}

/// A script that has said that it is ready, and ends with its standard input.
struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn start(mut command: Command) -> Result<Self, String> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut script = Self { child, output };
        let line = script.line()?;
        ensure(line.starts_with("ready"), || line.clone())?;
        Ok(script)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        Ok(line)
    }

    fn release(&mut self) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no stdin")?;
        stdin.write_all(b"\n").map_err(|error| error.to_string())
    }

    fn end(mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        self.child
            .wait()
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn trace(setting: &Setting, pid: u32) -> Result<Tracer, String> {
    let mut command = tracer::command();
    // What census sees is never a dup.
    command.args(["trace", "--json", "--op", "open,dup", "--stacks", "always"]);
    command.args(["--backend", &setting.backend, "--pid", &pid.to_string()]);
    Tracer::start_command(command)
}

/// The frames of an event, as text.
fn stack(event: &Value) -> Vec<&str> {
    let stack = event["stack"].as_array().map_or(&[][..], Vec::as_slice);
    stack.iter().filter_map(Value::as_str).collect()
}

/// Is it an event of an fd that has come?
fn is_new(object: &Value) -> bool {
    matches!(object["op"].as_str(), Some("open" | "dup"))
}

/// A thousand opens from fifty lines in eight threads: each is told with its line.
fn right(setting: &Setting, python: &PathBuf) -> Result<(), String> {
    // Emulated guests take their time.
    let count = if setting.is_guest { 200 } else { 1_000 };
    let mut command = Command::new(python);
    let script = scripts(setting).join("fifty.py");
    command.arg(script).arg(count.to_string());
    let mut script = Script::start(command)?;
    let tracer = trace(setting, script.child.id())?;
    script.release()?;
    let told: Value = serde_json::from_str(&script.line()?).map_err(|error| error.to_string())?;
    let opened = told["opened"].as_array().ok_or("nothing opened")?;
    ensure(opened.len() == count, || format!("{} opened", opened.len()))?;
    let last = opened.iter().filter_map(|it| it[0].as_u64()).max();
    tracer.wait_for(|object| is_new(object) && object["fd"].as_u64() == last)?;
    script.end()?;
    let ended = tracer.stop()?;
    let opens = ended.objects.iter().filter(|object| is_new(object));
    let by_fd: BTreeMap<u64, &Value> = opens
        .filter_map(|event| Some((event["fd"].as_u64()?, event)))
        .collect();
    let is_right = |one: &&Value| {
        let place = format!("({FILE}:{})", one[2]);
        let event = one[0].as_u64().and_then(|fd| by_fd.get(&fd));
        let stack = event.map(|event| stack(event)).unwrap_or_default();
        let own = stack.iter().find(|frame| frame.contains(FILE));
        own.is_some_and(|frame| frame.ends_with(&place))
    };
    let wrong: Vec<_> = opened.iter().filter(|one| !is_right(one)).collect();
    ensure(wrong.is_empty(), || {
        let first = wrong.first().and_then(|one| by_fd.get(&one[0].as_u64()?));
        format!(
            "{} of {count} wrong, as {:?}: {first:#?}",
            wrong.len(),
            wrong.first()
        )
    })
}

/// The same file, leaked by two functions: two rows, with counts that add up.
fn two_functions_are_two_rows(setting: &Setting) -> Result<(), String> {
    let script = scripts(setting).join("two.py");
    let mut command = tracer::command();
    command.args([
        "leaks",
        "--json",
        "--quiet",
        "--backend",
        &setting.backend,
        "--",
    ]);
    let output = command
        .arg(PYTHON)
        .arg(script)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let objects = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let rows: Vec<_> = objects
        .filter(|object| {
            let target = object["target"].as_str().unwrap_or_default();
            object["type"] == "outstanding" && target.ends_with("filesystems")
        })
        .collect();
    let of = |function: &str| {
        let mut rows = rows.iter();
        let is_of = |row: &&Value| stack(row).iter().any(|frame| frame.starts_with(function));
        rows.find(is_of).and_then(|row| row["count"].as_u64())
    };
    ensure(
        of("reads_often (") == Some(30) && of("reads_rarely (") == Some(10),
        || format!("{rows:#?}\n{}", String::from_utf8_lossy(&output.stderr)),
    )
}

/// Workers that are forked from a process whose interpreter is known: their lines are told from the first open on.
fn of_forked_workers(setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(PYTHON);
    command.arg(scripts(setting).join("workers.py"));
    let mut script = Script::start(command)?;
    let mut command = tracer::command();
    command.args(["trace", "--json", "--op", "open", "--stacks", "always"]);
    command.args(["--backend", &setting.backend, "--comm", "lines-workers"]);
    let tracer = Tracer::start_command(command)?;
    script.release()?;
    let pids = script.line()?;
    let pids: Vec<u64> = pids
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    ensure(pids.len() == 3, || format!("{pids:?}"))?;
    for pid in pids {
        let event = tracer.wait_for(|object| {
            object["op"] == "open"
                && object["pid"] == pid
                && object["target"] == "/proc/filesystems"
        })?;
        let stack = stack(&event);
        let is_named = stack
            .iter()
            .any(|frame| frame.starts_with("serve (") && frame.ends_with("workers.py:13)"));
        ensure(is_named, || format!("{stack:#?}"))?;
    }
    script.end()?;
    tracer.stop().map(drop)
}

/// One function has filled the table, and another one finds it full.
fn of_call_that_fails(setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(PYTHON);
    command.arg(scripts(setting).join("fails.py"));
    let mut script = Script::start(command)?;
    let pid = script.child.id();
    let mut command = tracer::command();
    command.args(["watch", "--json", "--stacks", "always", "--backend"]);
    command.args([&setting.backend, "--pid", &pid.to_string()]);
    let tracer = Tracer::start_command(command)?;
    script.release()?;
    // What opened is looked at by then: the interpreter is known.
    tracer.wait_for(|object| object["type"] == "near_limit")?;
    script.release()?;
    let event = tracer.wait_for(|object| object["type"] == "exhausted")?;
    script.end()?;
    tracer.stop()?;
    let mut frames = event["failed_in"].as_array().into_iter().flatten();
    let is_there = frames.any(|frame| {
        let frame = frame.as_str().unwrap_or_default();
        frame.starts_with("runs_out (") && frame.ends_with("fails.py:12)")
    });
    ensure(is_there, || format!("{event:#}"))
}
