//! Programs in people's languages that leak as people's programs do: files and connections in Python, sockets
//! in Node, an early return and bodies of answers in Go.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{Facts, Gym},
    programs::clean,
    tracer::{Tracer, of_process},
    trial, verdicts,
};

/// What a file is lost to.
const FILE: &str = "/etc/passwd";

/// Where guests have the scripts.
pub(crate) const SCRIPTS: &str = "/interpreters";

/// The Go programs, which guests have alone, a function that is named, and where it leaks, if that is a line of the
/// program: what `net/http` opens, it opens in goroutines of its own.
const GO: [(&str, &str, Option<&str>); 2] = [
    (
        "early.go",
        "main.handle (",
        Some(include_str!("languages/early.go")),
    ),
    ("bodies.go", "net/http.(*Transport).dialConn (", None),
];

/// Who leaks how, and from which source. Interpreters are those of the distribution's packages.
const SERVICES: [(&str, &str); 5] = [
    ("/usr/bin/python3", "file.py"),
    ("/usr/bin/python3", "connection.py"),
    ("/usr/bin/node", "sockets.js"),
    ("/victims/early", "early.go"),
    ("/victims/bodies", "bodies.go"),
];

/// Those that lose a file; the others lose connections.
const LOSE_FILES: [&str; 2] = ["file.py", "early.go"];

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let name = "languages::that_leak";
    if setting.is_guest && !Path::new(SCRIPTS).exists() || setting.backend == "kprobe" {
        println!("skipped: {name}: one kernel's fentry is enough");
        return Vec::new();
    }
    let is_there = |(program, script): &(&str, &str)| {
        let is_there = Path::new(program).exists();
        if !is_there {
            println!("skipped: {name} of {script}: there is no {program} here");
        }
        is_there
    };
    let services: Vec<_> = SERVICES.into_iter().filter(is_there).collect();
    if services.is_empty() {
        return Vec::new();
    }
    let setting = setting.clone();
    vec![trial(name, move || that_leak(&setting, &services))]
}

fn that_leak(setting: &Setting, programs: &[(&str, &'static str)]) -> Result<(), String> {
    let watch = Tracer::start(&setting.backend, &["--warn-at", verdicts::mark(setting)])?;
    let address = server()?.to_string();
    let folder = scripts(setting);
    let mut services = Vec::new();
    for (program, script) in programs {
        // A guest's tests have no files but their own.
        let mut command = if setting.is_guest {
            Command::new("sh")
        } else {
            clean("sh")
        };
        // The hard limit as well: Node raises the soft one to it. Nobody waits for ever for one that hangs.
        let run = "ulimit -n 200; exec timeout 180 \"$@\"";
        command.args(["-c", run, "sh", program]);
        if !program.starts_with("/victims/") {
            command.arg(folder.join(script));
        }
        command.arg(if LOSE_FILES.contains(script) {
            FILE
        } else {
            &address
        });
        services.push((*script, Gym::start_waiting(command)?.0));
    }
    for (_, service) in &mut services {
        service.release()?;
    }
    let mut facts = Vec::new();
    for (script, service) in &mut services {
        let told = service.held();
        facts.push((*script, told.map_err(|wrong| format!("{script}: {wrong}"))?));
    }
    for (script, facts) in &facts {
        verdicts::until_all_is_told(&watch, script, facts)?;
    }
    for (_, service) in services {
        service.end()?;
    }
    let ended = watch.stop()?;
    let checks = facts.iter().flat_map(|(script, facts)| {
        let checks = [
            verdicts::is_a_leak(&ended.objects, facts),
            verdicts::holds_the_true_target(&ended.objects, facts),
            names_the_source(setting, &ended.objects, facts, script),
        ];
        checks.map(|check| check.map_err(|wrong| format!("{script}: {wrong}")))
    });
    let wrong: Vec<_> = checks.filter_map(Result::err).collect();
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// Where the scripts are.
pub(crate) fn scripts(setting: &Setting) -> PathBuf {
    if setting.is_guest {
        SCRIPTS.into()
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/languages")
    }
}

/// The script is named with what has opened the most, and in Go and Python the line.
fn names_the_source(
    setting: &Setting,
    objects: &[Value],
    facts: &Facts,
    script: &str,
) -> Result<(), String> {
    // Without hooks, what is tested is a file in Python.
    if !setting.sees_inside_calls() && script != "file.py" {
        return Ok(());
    }
    let reports = of_process(objects, facts.pid);
    let report = reports.last().ok_or("no report")?;
    let holder = &report["holders"][0];
    let frames = holder["stack"].as_array().ok_or("no stack")?;
    let go = GO.iter().find(|(name, ..)| *name == script);
    let is_named = if let Some((name, function, source)) = go {
        let frames = frames.iter().filter_map(Value::as_str);
        let mut frames = frames.filter(|frame| frame.starts_with(function));
        let line =
            source.and_then(|source| source.lines().position(|line| line.contains("[leaks]")));
        let place = line.map(|line| format!("/{name}:{})", line + 1));
        frames.any(|frame| place.as_ref().is_none_or(|place| frame.ends_with(place)))
    } else {
        let named = holder["script"].as_str().unwrap_or_default();
        // Of Python the line as well, which no library has.
        let place = format!("/{script}:");
        let mut frames = frames.iter().filter_map(Value::as_str);
        let has_line = !script.contains(".py") || frames.any(|frame| frame.contains(&place));
        named.ends_with(script) && has_line
    };
    ensure(is_named, || format!("{holder:#}"))
}

/// Answers whoever asks, and keeps the connections of those that do not; it ends with the test's process.
pub(crate) fn server() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(client));
        }
    });
    Ok(address)
}

fn answer(mut client: TcpStream) {
    let asked = client.read(&mut [0; 1_024]);
    if asked.is_ok_and(|length| length > 0) {
        // A client that has gone needs no answer.
        let _ = client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}
