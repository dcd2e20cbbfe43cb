//! The ways in which real programs fill their tables, and what fdtrace says at the first call that fails: the
//! first report is the one that `--once` and `--exec` get.

use std::{path::Path, process::Command};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{Facts, Gym},
    languages::{SCRIPTS, scripts},
    programs::clean,
    tracer::{Tracer, of_process},
    trial,
};

const PYTHON: &str = "/usr/bin/python3";

/// Each shape, its verdict, and words of its evidence.
const SHAPES: [(&str, &str, &str); 7] = [
    ("busy_start", "leak", "minimum open rose"),
    ("churn", "leak", "minimum open rose"),
    ("spool", "leak", "minimum open rose"),
    ("event_loops", "leak", "minimum open rose"),
    ("connections", "leak", "minimum open rose"),
    ("clients", "saturation", "are connected clients"),
    ("hung_up", "leak", "in CLOSE_WAIT"),
];

/// What stands for nothing that anybody has seen.
const EMPTY: [&str; 3] = ["0 of 0", " 0.0 s", "before fdtrace"];

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let name = "shapes::first_verdicts";
    if setting.is_guest && !Path::new(SCRIPTS).exists() || setting.backend == "kprobe" {
        println!("skipped: {name}: one kernel's fentry is enough");
        return Vec::new();
    }
    if !Path::new(PYTHON).exists() {
        println!("skipped: {name}: there is no {PYTHON} here");
        return Vec::new();
    }
    let setting = setting.clone();
    vec![trial(name, move || first_verdicts(&setting))]
}

fn first_verdicts(setting: &Setting) -> Result<(), String> {
    let watch = Tracer::start(&setting.backend, &[])?;
    let mut programs = Vec::new();
    for shape in SHAPES {
        programs.push((shape, start(setting, shape.0)?));
    }
    for (_, program) in &mut programs {
        program.release()?;
    }
    let mut wrong = Vec::new();
    for ((name, kind, words), program) in &mut programs {
        let facts = program.held()?;
        let report = first_report(&watch, &facts)?;
        let verdict = &report["verdict"];
        let evidence = verdict["evidence"].to_string();
        let is_right = verdict["kind"] == *kind
            && evidence.contains(*words)
            && !EMPTY.iter().any(|empty| evidence.contains(empty));
        if !is_right {
            wrong.push(format!("{name}: {verdict}"));
        }
        if !is_first_row_right(name, &report["holders"][0]) {
            wrong.push(format!("{name}: {}", report["holders"]));
        }
        if *name == "clients" && watch.has_seen(|object| is_called_a_leak(object, &facts)) {
            wrong.push(format!("{name}: called a leak"));
        }
    }
    for (_, program) in programs {
        program.end()?;
    }
    let ended = watch.stop()?;
    ensure(wrong.is_empty() && ended.status.success(), || {
        format!("{}\n{}", wrong.join("\n"), ended.stderr)
    })
}

/// Does the largest row name what it is of?
fn is_first_row_right(shape: &str, row: &Value) -> bool {
    match shape {
        "clients" => row["state"] == "established",
        "hung_up" => row["states"]["close-wait"].as_u64() > Some(100),
        "spool" => {
            let folder = &row["folders"][0];
            let is_it = folder["path"]
                .as_str()
                .is_some_and(|path| path.contains("spool"));
            is_it && folder["pattern"] == "msg*" && folder["deleted"].as_u64() > Some(100)
        }
        _ => true,
    }
}

fn start(setting: &Setting, shape: &str) -> Result<Gym, String> {
    // A guest's tests have no files but their own.
    let mut command = if setting.is_guest {
        Command::new("sh")
    } else {
        clean("sh")
    };
    let run = "ulimit -n 200; exec timeout 180 \"$@\"";
    command.args(["-c", run, "sh", PYTHON]);
    command.arg(scripts(setting).join("shapes.py")).arg(shape);
    Ok(Gym::start_waiting(command)?.0)
}

fn first_report(watch: &Tracer, facts: &Facts) -> Result<Value, String> {
    let is_it = |object: &Value| !of_process(std::slice::from_ref(object), facts.pid).is_empty();
    watch.wait_for(is_it)
}

fn is_called_a_leak(object: &Value, facts: &Facts) -> bool {
    object["pid"] == facts.pid && object["verdict"]["kind"] == "leak"
}
