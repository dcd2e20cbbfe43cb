//! Which line of Python has opened an fd: each `CPython` that is installed here, without any option of its own.

mod real;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    languages::scripts,
    script::{Script, is_new, stack, trace},
    tracer::{self, Tracer},
    trial,
};

/// The distribution's.
const PYTHON: &str = "/usr/bin/python3";
/// What the fifty functions are said to be in.
const FILE: &str = "/made/fifty.py";
/// Interpreters that are tested side by side: a CPU's stacks are 512 a second, and theirs 90 each.
const AT_ONCE: usize = 4;
/// Versions whose interpreters are read.
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=15;

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let found = interpreters();
    if found.is_empty() || setting.is_guest && !scripts(setting).exists() {
        println!("skipped: lines: there is no Python here");
        return Vec::new();
    }
    let of_some = |some: &[(String, Python)]| {
        let (setting, some) = (setting.clone(), some.to_vec());
        let names: Vec<_> = some.iter().map(|(name, _)| name.as_str()).collect();
        let name = format!("lines::of_{}", names.join("_"));
        trial(name, move || all_right(&setting, &some))
    };
    let mut trials: Vec<_> = found.chunks(AT_ONCE).map(of_some).collect();
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
    trials.push(test("of_one_gone_at_once", of_one_gone_at_once));
    trials.push(test("of_real_leaks", real::leaks));
    trials
}

/// An interpreter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Python {
    /// In the files that everybody sees.
    Here(PathBuf),
    /// In a root folder of its own, as in a container, by its name there.
    Rooted(PathBuf, String),
}

impl Python {
    /// Runs a script of the tests: what is elsewhere has no files but its own.
    fn command(&self, script: &Path) -> Result<Command, String> {
        match self {
            Self::Here(path) => {
                let mut command = Command::new(path);
                command.arg(script);
                Ok(command)
            }
            Self::Rooted(root, name) => {
                let text = fs::read_to_string(script).map_err(|error| error.to_string())?;
                let mut command = Command::new("chroot");
                command.arg(root).args([name, "-c", &text]);
                Ok(command)
            }
        }
    }
}

/// The distribution's, those of pyenv, and those that setup has unpacked.
fn interpreters() -> Vec<(String, Python)> {
    let mut found = Vec::new();
    if PathBuf::from(PYTHON).exists() {
        found.push(("python3".to_owned(), Python::Here(PYTHON.into())));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.unwrap_or_default();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.unwrap_or_else(|| home.join(".pyenv"));
    for (name, folder) in versions(&pyenv.join("versions")) {
        let path = folder.join("bin/python3");
        if path.exists() {
            found.push((name, Python::Here(path)));
        }
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| home.join(".cache"));
    for (name, root) in versions(&cache.join("fdtrace/pythons")) {
        let version = root.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("/usr/bin/python{version}");
        found.push((name, Python::Rooted(root.clone(), path)));
    }
    found.sort();
    found
}

/// The folders of versions that are read, and names for them.
fn versions(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let version = |folder: fs::DirEntry| {
        let name = folder.file_name().to_string_lossy().into_owned();
        let minor = name.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
        let name = name.replace('.', "_");
        VERSIONS.contains(&minor).then(|| (name, folder.path()))
    };
    entries.filter_map(version).collect()
}

/// Several interpreters side by side, each with an fdtrace of its own.
fn all_right(setting: &Setting, pythons: &[(String, Python)]) -> Result<(), String> {
    let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
        let of_one = |(name, python): &'_ (String, Python)| {
            right(setting, python).map_err(|wrong| format!("{name}: {wrong}"))
        };
        let running = pythons
            .iter()
            .map(|python| scope.spawn(move || of_one(python)));
        let running: Vec<_> = running.collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        let panicked = |_| Err("a thread has panicked".to_owned());
        ended.map(|ended| ended.unwrap_or_else(panicked)).collect()
    });
    let wrong: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// A thousand opens from fifty lines in eight threads: each is told with its line.
fn right(setting: &Setting, python: &Python) -> Result<(), String> {
    // Emulated guests take their time.
    let count = if setting.is_guest { 200 } else { 1_000 };
    let mut command = python.command(&scripts(setting).join("fifty.py"))?;
    command.arg(count.to_string());
    let mut script = Script::start(command)?;
    let tracer = trace(setting, script.id())?;
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
    let pid = script.id();
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

/// It ends in the moment in which it finds its table full: nothing can be read of it when its report is made.
fn of_one_gone_at_once(setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(PYTHON);
    command.arg(scripts(setting).join("dies.py"));
    let mut script = Script::start(command)?;
    let pid = script.id();
    let mut command = tracer::command();
    command.args(["watch", "--json", "--stacks", "always", "--backend"]);
    command.args([&setting.backend, "--pid", &pid.to_string()]);
    let tracer = Tracer::start_command(command)?;
    script.release()?;
    let event = tracer.wait_for(|object| object["type"] == "exhausted")?;
    script.end()?;
    tracer.stop()?;
    let is_named = |stack: &Value| {
        let mut frames = stack.as_array().into_iter().flatten();
        frames.any(|frame| {
            let frame = frame.as_str().unwrap_or_default();
            frame.starts_with("fills (") && frame.ends_with("dies.py:7)")
        })
    };
    ensure(
        is_named(&event["holders"][0]["stack"]) && is_named(&event["failed_in"]),
        || format!("{event:#}"),
    )
}
