//! `fdtrace record` of victims, and what every command says when it reads the file in place of the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{self, Facts, Gym},
    tracer::{self, Tracer},
    trial,
    verdicts::mark,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("record::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("replayed", replayed),
        test("killed", killed),
        test("flight", flight),
        test("disk_full", disk_full),
        test("as_live", as_live),
    ];
    if let Some(reason) = why_ends_are_not_told(setting) {
        println!("skipped: record::gone_at_once: {reason}");
    } else {
        trials.push(test("gone_at_once", gone_at_once));
    }
    trials
}

/// A file's name that nobody has, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("fdtrace-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn record(setting: &Setting, path: &Path, arguments: &[&str]) -> Result<Tracer, String> {
    let mut command = tracer::command();
    command
        .args(["record", "--ring-size", "64M", "--backend"])
        .arg(&setting.backend)
        .arg("-o")
        .arg(path)
        .args(arguments);
    Tracer::start_command(command)
}

/// What a command says of a recording.
fn replay(path: &Path, arguments: &[&str]) -> Result<Output, String> {
    let mut command = tracer::command();
    command.args(arguments).arg("--replay").arg(path);
    command
        .output()
        .map_err(|error| format!("fdtrace: {error}"))
}

fn objects(output: &Output) -> Result<Vec<Value>, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let objects = text.lines().map(serde_json::from_str);
    let objects = objects.collect::<Result<_, _>>();
    objects.map_err(|error| format!("{error}: {text}"))
}

/// Exact, the failure told, its process's fds shown; and the same again, byte for byte.
fn replayed(setting: &Setting) -> Result<(), String> {
    let file = Scratch::new("replayed");
    let recorder = record(setting, &file.0, &[])?;
    let failing = gym::run("openat", &[])?;
    let mut churn = Gym::waiting::<&str>("churn", &[])?.0;
    let mut holder = Gym::start({
        let mut command = gym::command("hold");
        command.args(["--count", "300", "--limit", "400"]);
        command
    })?;
    let holding = holder.held()?;
    churn.release()?;
    churn.held()?;
    let ended = recorder.stop()?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    churn.end()?;
    holder.end()?;

    let audit = replay(&file.0, &["audit", "--json", "--all"])?;
    let rows = objects(&audit)?;
    ensure(audit.status.success(), || format!("{:#?}", rows.last()))?;
    let row = rows.iter().find(|row| row["pid"] == holding.pid);
    ensure(
        row.is_some_and(|row| row["used"] == holding.used && row["open"] == holding.used),
        || format!("{row:?} instead of {holding:?}"),
    )?;

    let watch = replay(&file.0, &["--json"])?;
    let reports = objects(&watch)?;
    let report = reports.iter().find(|report| report["pid"] == failing.pid);
    ensure(
        report.is_some_and(|report| report["used"] == failing.used && report["call"] == "openat"),
        || format!("{reports:#?}"),
    )?;

    let pid = holding.pid.to_string();
    let trace = replay(&file.0, &["trace", "--json", "--pid", &pid, "--op", "open"])?;
    let events = objects(&trace)?;
    let (opened, others): (Vec<_>, Vec<_>) = events.iter().partition(|event| event["op"] == "open");
    let opened: Vec<_> = opened
        .iter()
        .filter_map(|event| event["fd"].as_u64())
        .collect();
    // Stacks of a table that fills up that fast are not all taken; where none are shown, nobody asks.
    ensure(
        (3..3 + 300).all(|fd| opened.contains(&fd)) && others.len() == 1,
        || format!("{} opened: {opened:?}; {others:#?}", opened.len()),
    )?;

    for arguments in [&["--json"][..], &["trace", "--json"], &["audit", "--json"]] {
        let (one, other) = (replay(&file.0, arguments)?, replay(&file.0, arguments)?);
        ensure(one.stdout == other.stdout, || {
            format!("{arguments:?} says something else the second time")
        })?;
    }
    Ok(())
}

/// What was recorded up to then can be read.
fn killed(setting: &Setting) -> Result<(), String> {
    let file = Scratch::new("killed");
    let recorder = record(setting, &file.0, &[])?;
    let failing = gym::run("openat", &[])?;
    // Everything is in the file a second later.
    let is_in_it = || {
        let watch = replay(&file.0, &["--json"])?;
        Ok::<_, String>(
            objects(&watch)?
                .iter()
                .any(|report| report["pid"] == failing.pid),
        )
    };
    let start = std::time::Instant::now();
    while !is_in_it()? {
        ensure(start.elapsed().as_secs() < 60, || {
            "it is never written".to_owned()
        })?;
    }
    recorder.kill()?;
    let watch = replay(&file.0, &["--json"])?;
    let said = String::from_utf8_lossy(&watch.stderr);
    ensure(
        watch.status.success() && said.contains("cut off") && is_in_it()?,
        || format!("{}: {said}", watch.status),
    )?;
    // Half of it, and whatever bytes that leaves of the last record.
    let bytes = fs::read(&file.0).map_err(|error| error.to_string())?;
    fs::write(&file.0, &bytes[..bytes.len() / 2]).map_err(|error| error.to_string())?;
    let watch = replay(&file.0, &["--json"])?;
    ensure(watch.status.success(), || {
        String::from_utf8_lossy(&watch.stderr).into_owned()
    })
}

/// Nothing is written until there is an exhaustion; then the minutes before it are.
fn flight(setting: &Setting) -> Result<(), String> {
    let file = Scratch::new("flight");
    let recorder = record(setting, &file.0, &["--flight", "1"])?;
    let mut holder = Gym::start({
        let mut command = gym::command("hold");
        command.args(["--count", "40"]);
        command
    })?;
    let holding = holder.held()?;
    ensure(!file.0.exists(), || {
        "a file without an exhaustion".to_owned()
    })?;
    let failing = gym::run("openat", &[])?;
    recorder.wait_until_said(&format!("exhaustion: written to {}", file.path()))?;
    let ended = recorder.stop()?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    holder.end()?;
    let watch = replay(&file.0, &["--json"])?;
    let reports = objects(&watch)?;
    ensure(
        reports.iter().any(|report| report["pid"] == failing.pid),
        || format!("{reports:#?}"),
    )?;
    if setting.sees_inside_calls() {
        let trace = replay(&file.0, &["trace", "--json", "--op", "open"])?;
        let events = objects(&trace)?;
        let opened = events.iter().filter(|event| event["pid"] == holding.pid);
        ensure(opened.count() >= 40, || format!("{} events", events.len()))?;
    }
    Ok(())
}

/// Who holds what, who has opened it, whose process it is and why: a warning, a report and the outstanding fds
/// say the same of a recording as they did live.
fn as_live(setting: &Setting) -> Result<(), String> {
    let file = Scratch::new("as-live");
    // A victim that is stopped in time leaks slowly: verdicts take seconds.
    let warn = ["--warn-at", mark(setting), "--stacks", "always"];
    let outstanding = [
        "leaks",
        "--older",
        "1s",
        "--interval",
        "2s",
        "--stacks",
        "always",
    ];
    let recorder = record(setting, &file.0, &["--stacks", "always"])?;
    let watch = Tracer::start(&setting.backend, &warn)?;
    let mut leaks = tracer::command();
    leaks.args(outstanding);
    leaks.args(["--json", "--backend", &setting.backend]);
    let leaks = Tracer::start_command(leaks)?;
    let none: &[&str] = &[];
    let mut victims = Vec::new();
    for service in ["leak_file", "leak_connection"] {
        victims.push(Gym::waiting(service, none)?.0);
    }
    victims.iter_mut().try_for_each(Gym::release)?;
    let facts: Vec<Facts> = victims
        .iter_mut()
        .map(Gym::held)
        .collect::<Result<_, _>>()?;
    for facts in &facts {
        watch.wait_for(|object| object["pid"] == facts.pid && object["type"] == "exhausted")?;
        leaks.wait_for(|row| is_all(row, facts))?;
    }
    // Until then the victims hold still.
    let (watch, leaks, ended) = (watch.stop()?, leaks.stop()?, recorder.stop()?);
    victims.into_iter().try_for_each(Gym::end)?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    let live = [watch.objects, leaks.objects].concat();
    let mut replayed = Vec::new();
    for arguments in [&warn[..], &outstanding] {
        let arguments = [arguments, &["--json"]].concat();
        let (one, other) = (replay(&file.0, &arguments)?, replay(&file.0, &arguments)?);
        ensure(one.stdout == other.stdout, || {
            format!("{arguments:?} says something else the second time")
        })?;
        replayed.extend(objects(&one)?);
    }
    for facts in &facts {
        for what in ["near_limit", "exhausted", "outstanding"] {
            says_the_same(what, facts, &live, &replayed)?;
        }
    }
    Ok(())
}

/// All that has leaked is a second old, and it is known where it leads to.
fn is_all(row: &Value, facts: &Facts) -> bool {
    let target = facts
        .holder
        .as_ref()
        .and_then(|holder| holder.target.as_deref());
    row["pid"] == facts.pid
        && row["target"].as_str() == target
        && row["count"].as_u64() >= Some(facts.operations)
}

fn says_the_same(
    what: &str,
    facts: &Facts,
    live: &[Value],
    replayed: &[Value],
) -> Result<(), String> {
    let holder = facts.holder.as_ref().ok_or("no truth")?;
    let all = |objects: &[Value]| {
        // Rows of outstanding fds that are few are of files that it was started with.
        let is_it = |object: &&Value| {
            let is_large = what != "outstanding" || object["count"].as_u64() > Some(10);
            object["type"] == what && object["pid"] == facts.pid && is_large
        };
        let objects = objects.iter().filter(is_it);
        objects
            .map(|object| told(object, holder.target.as_deref()))
            .collect::<Vec<_>>()
    };
    let (live, replayed) = (all(live), all(replayed));
    // The first blocks come too early for a verdict, each at its own time.
    let is_told = live
        .last()
        .is_some_and(|told| told["is_the_target"] == true);
    ensure(is_told && live.last() == replayed.last(), || {
        format!("{what}: live {live:#?}, but of the recording {replayed:#?}")
    })?;
    // Where the youngest sockets lead to is known a moment later.
    let is_file = holder.kind == "file";
    for told in [live, replayed].iter().flatten().filter(|_| is_file) {
        ensure(told["is_the_target"] == true, || format!("{what}: {told}"))?;
    }
    Ok(())
}

/// What does not depend on the moment: of whom, of which verdict, and of who has opened what it leaks.
fn told(object: &Value, path: Option<&str>) -> Value {
    let is_its = |holder: &&Value| holder["target"].as_str() == path;
    let holders = object["holders"].as_array();
    let holder = holders.map_or(Some(object), |holders| holders.iter().find(is_its));
    let holder = holder.filter(is_its);
    serde_json::json!({
        "uid": object["uid"],
        "cgroup": object["cgroup"],
        "exe": object["exe"],
        "verdict": object["verdict"]["kind"],
        "is_the_target": holder.is_some(),
        "stack": holder.map(|holder| holder["stack"].clone()),
    })
}

/// One line says why the recording ends.
fn disk_full(setting: &Setting) -> Result<(), String> {
    let mut command = tracer::command();
    command.args(["record", "-d", "60", "-o", "-", "--backend"]);
    command.arg(&setting.backend);
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    command.stdout(full.map_err(|error| error.to_string())?);
    let output = command
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(
        output.status.code() == Some(2)
            && said.contains("writing standard output: No space left on device"),
        || format!("{}: {said}", output.status),
    )
}

/// Where sockets of a process lead to that is gone a moment later.
fn why_ends_are_not_told(setting: &Setting) -> Option<&'static str> {
    let release = rustix::system::uname();
    if !setting.sees_inside_calls() {
        Some("census has no way to see the table at the moment of the call")
    } else if release.release().to_bytes().starts_with(b"5.10.") {
        Some("Debian 11's kernel does not loop in programs")
    } else {
        None
    }
}

/// Who holds the fds, as (kind, target, count).
fn holders(report: &Value) -> Vec<(&str, Option<&str>, u64)> {
    let holders = report["holders"].as_array().map_or(&[][..], Vec::as_slice);
    let fields = |holder| -> Option<(&str, Option<&str>, u64)> {
        let holder: &Value = holder;
        let kind = holder["kind"].as_str()?;
        Some((kind, holder["target"].as_str(), holder["count"].as_u64()?))
    };
    holders.iter().filter_map(fields).collect()
}

/// The victim's end follows the failing call: all it held is told, live and from the file, and the file says
/// the same each time.
fn gone_at_once(setting: &Setting) -> Result<(), String> {
    let file = Scratch::new("gone");
    let recorder = record(setting, &file.0, &[])?;
    let watch = Tracer::start(&setting.backend, &[])?;
    let facts = gym::run("quick_exit_sockets", &[])?;
    let live = watch.wait_for(|object| object["pid"] == facts.pid)?;
    watch.stop()?;
    let ended = recorder.stop()?;
    ensure(ended.status.success(), || ended.stderr)?;
    let (one, other) = (replay(&file.0, &["--json"])?, replay(&file.0, &["--json"])?);
    ensure(one.stdout == other.stdout, || {
        "something else the second time".to_owned()
    })?;
    let reports = objects(&one)?;
    let replayed = reports.iter().find(|report| report["pid"] == facts.pid);
    let replayed = replayed.ok_or("not in the recording")?;
    let holder = facts.holder.ok_or("no truth")?;
    let wanted = (&*holder.kind, holder.target.as_deref(), holder.count);
    for report in [&live, replayed] {
        let told = holders(report);
        let sum: u64 = told.iter().map(|(.., count)| count).sum();
        ensure(told.first() == Some(&wanted) && sum == facts.used, || {
            format!("no {wanted:?}, or not {} in all: {report:#}", facts.used)
        })?;
    }
    ensure(holders(&live).len() == holders(replayed).len(), || {
        format!("{live:#} but {replayed:#}")
    })
}
