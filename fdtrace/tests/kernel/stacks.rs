//! Which line of code has opened an fd: programs as they are shipped, without frame pointers.

mod reader;

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::Value;

use fdtrace::stream::recording::{Item, Note, Reader};

use super::{Setting, ensure, tracer, tracer::Tracer, trial};

/// Where the guest has the victims.
const VICTIMS: &str = "/victims";
const C: &str = include_str!("stacks/victim.c");
const CPP: &str = include_str!("stacks/victim.cc");
const GO: &str = include_str!("stacks/victim.go");
const RUST: &str = include_str!("stacks/victim.rs");

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if !setting.sees_inside_calls() {
        return Vec::new();
    }
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("stacks::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("of_c_program", of_c_program),
        test("without_debug_information", without_debug_information),
        test("of_static_rust_program", of_static_rust_program),
        test("of_cpp_program", of_cpp_program),
        test("of_go_program", of_go_program),
        test("of_stripped_go_program", of_stripped_go_program),
        test("of_process_that_is_gone", of_process_that_is_gone),
        test("recorded", recorded),
        test("of_holders", of_holders),
        test("left_by_command", left_by_command),
        test("left_by_two_code_paths", left_by_two_code_paths),
        test("left_by_one_gone_at_once", left_by_one_gone_at_once),
    ];
    trials.extend(reader::trials(setting));
    trials
}

fn trace(setting: &Setting, arguments: &[&str]) -> Result<Tracer, String> {
    let mut command = tracer::command();
    command
        .args(["trace", "--json", "--op", "open", "--backend"])
        .arg(&setting.backend)
        .args(arguments);
    Tracer::start_command(command)
}

/// A victim that waits until its standard input ends.
fn victim(name: &str, count: u32) -> Result<Child, String> {
    let mut command = Command::new(format!("{VICTIMS}/{name}"));
    command
        .arg(count.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().map_err(|error| format!("{name}: {error}"))
}

fn end(mut child: Child) -> Result<(), String> {
    drop(child.stdin.take());
    child.wait().map(drop).map_err(|error| error.to_string())
}

/// The line of a victim's source that has this name in brackets.
fn line(source: &str, name: &str) -> usize {
    let name = format!("[{name}]");
    let mut lines = source.lines().zip(1..);
    lines
        .find(|(line, _)| line.contains(&name))
        .map_or(0, |(_, number)| number)
}

/// A function and where it is, as an event has them.
type Function = (&'static str, String);

/// Do the functions of an event contain these, in this order and without a gap?
fn has(event: &Value, functions: &[Function]) -> Result<(), String> {
    has_in(event, "stack", functions)
}

/// The same of another member.
fn has_in(event: &Value, member: &str, functions: &[Function]) -> Result<(), String> {
    let stack = event[member]
        .as_array()
        .ok_or_else(|| format!("no {member}: {event}"))?;
    let stack: Vec<&str> = stack.iter().filter_map(Value::as_str).collect();
    let is_there = stack.windows(functions.len()).any(|frames| {
        let mut pairs = frames.iter().zip(functions);
        pairs.all(|(frame, (name, place))| {
            frame.starts_with(&format!("{name} (")) && frame.ends_with(&format!("{place})"))
        })
    });
    ensure(is_there, || format!("{functions:#?} are not in {stack:#?}"))
}

/// What `victim.c` looks like from the inside, the innermost first.
fn in_c() -> [Function; 4] {
    let place = |name| format!("/victim.c:{}", line(C, name));
    [
        ("open_quietly", place("opens")),
        ("leak_one", place("leaks")),
        ("handle_request", place("handles")),
        ("main", place("calls")),
    ]
}

fn is_null(object: &Value) -> bool {
    object["op"] == "open"
        && object["target"]
            .as_str()
            .is_some_and(|target| target.ends_with("null"))
}

/// Function, file and line, inlined ones too, all the way to the program's start.
fn of_c_program(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", "plain"])?;
    let victim = victim("plain", 1)?;
    let event = tracer.wait_for(is_null)?;
    end(victim)?;
    tracer.stop()?;
    has(&event, &in_c())?;
    let stack = event["stack"].as_array().map_or(&[][..], Vec::as_slice);
    let first = stack.first().and_then(Value::as_str).unwrap_or_default();
    let last = stack.last().and_then(Value::as_str).unwrap_or_default();
    ensure(
        event["stack_is_cut"] == false && first.contains("libc.so") && last.starts_with("_start"),
        || event.to_string(),
    )
}

/// The functions' names, and which program they are in.
fn without_debug_information(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", "bare"])?;
    let victim = victim("bare", 1)?;
    let event = tracer.wait_for(is_null)?;
    end(victim)?;
    tracer.stop()?;
    let functions = ["leak_one", "handle_request", "main"];
    has(
        &event,
        &functions.map(|function| (function, format!("{VICTIMS}/bare"))),
    )
}

fn of_static_rust_program(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", "rust"])?;
    let victim = victim("rust", 1)?;
    let event = tracer.wait_for(is_null)?;
    end(victim)?;
    tracer.stop()?;
    let place = |name| format!("/victim.rs:{}", line(RUST, name));
    let expected = [
        ("victim::leak_one", place("leaks")),
        ("victim::handle_request", place("handles")),
        ("victim::main", place("calls")),
    ];
    has(&event, &expected)
}

/// Names as they are written, the library's between them and the call.
fn of_cpp_program(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", "cpp"])?;
    let victim = victim("cpp", 1)?;
    let event = tracer.wait_for(is_null)?;
    end(victim)?;
    tracer.stop()?;
    let stack = event["stack"].as_array().map_or(&[][..], Vec::as_slice);
    let stack: Vec<&str> = stack.iter().filter_map(Value::as_str).collect();
    let place = |name| format!("/victim.cc:{})", line(CPP, name));
    let has = |start: &str, end: &str| {
        let mut frames = stack.iter();
        frames.position(|frame| frame.starts_with(start) && frame.ends_with(end))
    };
    let library = has("std::__basic_file<char>::open(", ")");
    let keep = has("void app::Store::keep<std::", &place("leaks"));
    let handle = has("app::handle(app::Store&, std::", &place("handles"));
    ensure(
        library.is_some() && library < keep && keep.is_some() && keep < handle,
        || format!("{stack:#?}"),
    )
}

/// On a goroutine's stack, down to where that begins.
fn of_go_program(setting: &Setting) -> Result<(), String> {
    let event = opened_by_go(setting, "go")?;
    let place = |name| format!("/victim.go:{}", line(GO, name));
    let expected = [
        ("main.openQuietly", place("opens")),
        ("main.leakOne", place("leaks")),
        ("main.main.func1", place("calls")),
    ];
    has(&event, &expected)?;
    let last = event["stack"].as_array().and_then(|stack| stack.last());
    ensure(
        last.is_some_and(|last| {
            last.as_str()
                .is_some_and(|last| last.starts_with("runtime.goexit"))
        }),
        || event.to_string(),
    )
}

/// Go's own table of functions is left.
fn of_stripped_go_program(setting: &Setting) -> Result<(), String> {
    let event = opened_by_go(setting, "gobare")?;
    let place = format!("{VICTIMS}/gobare");
    let expected = ["main.leakOne", "main.main.func1"];
    has(&event, &expected.map(|function| (function, place.clone())))
}

fn opened_by_go(setting: &Setting, name: &str) -> Result<Value, String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", name])?;
    let victim = victim(name, 1)?;
    let event = tracer.wait_for(is_null)?;
    end(victim)?;
    tracer.stop()?;
    Ok(event)
}

/// The table grows, so stacks are taken without being asked for; the process ends with its last opens.
fn of_process_that_is_gone(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "auto", "--comm", "plain"])?;
    let mut victim = victim("plain", 100)?;
    let pid = victim.id();
    let has_stack = |object: &Value| object["pid"] == pid && object["stack"].is_array();
    // Whether a table grows is looked at once a second: it goes on until somebody has seen it.
    let start = Instant::now();
    let mut input = victim.stdin.take().ok_or("no stdin")?;
    let mut bytes = 0;
    while !tracer.has_seen(has_stack) {
        ensure(start.elapsed() < Duration::from_mins(2), || {
            "never a stack".to_owned()
        })?;
        input.write_all(b".").map_err(|error| error.to_string())?;
        bytes += 1;
        sleep(Duration::from_millis(50));
    }
    drop(input);
    end(victim)?;
    // The first file gets the first number behind the standard ones.
    let last = 2 + 100 + bytes + 3;
    tracer.wait_for(|object| object["pid"] == pid && object["fd"] == last)?;
    let ended = tracer.stop()?;
    let opens = ended
        .objects
        .iter()
        .filter(|object| object["pid"] == pid && is_null(object));
    let opens: Vec<&Value> = opens.collect();
    ensure(opens.len() > 103 && opens[0]["stack"].is_null(), || {
        format!("{:#?}", opens.first())
    })?;
    let mut last = opens.iter().rev().take(3);
    last.try_for_each(|event| has(event, &in_c()))
        .map_err(|error| format!("{error}\n{}", ended.stderr))
}

/// A recording has the stacks resolved: it is read where their programs are not.
fn recorded(setting: &Setting) -> Result<(), String> {
    let file = std::env::temp_dir().join(format!("fdtrace-stacks-{}", std::process::id()));
    let mut command = tracer::command();
    command
        .args(["record", "--stacks", "always", "--backend"])
        .args([&setting.backend, "--comm", "plain", "-o"])
        .arg(&file);
    let recorder = Tracer::start_command(command)?;
    let mut victim = victim("plain", 5)?;
    let mut output = victim.stdout.take().ok_or("no stdout")?;
    output
        .read_exact(&mut [0; 6])
        .map_err(|error| error.to_string())?;
    recorder.stop()?;
    end(victim)?;
    let outcome = replayed(&file);
    let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(&file);
    let mut reader = Reader::new(&bytes[..]).map_err(|error| error.to_string())?;
    let mut opened = 0;
    while let Some(item) = reader.item().map_err(|error| error.to_string())? {
        if let Item::Note(Note::Stack {
            stack,
            opened: slots,
            ..
        }) = item
            && stack
                .caller()
                .is_some_and(|caller| caller.to_string().starts_with("open_quietly ("))
        {
            opened += slots.len();
        }
    }
    ensure(opened == 5, || format!("{opened} opened"))?;
    outcome
}

/// `trace` shows them below the opens as it does live, where that is asked for, and the same each time.
fn replayed(file: &Path) -> Result<(), String> {
    let replay = |arguments: &[&str]| {
        let mut command = tracer::command();
        command.args(["trace", "--json", "--op", "open", "--comm", "plain"]);
        command.args(arguments).arg("--replay").arg(file);
        let output = command.output().map_err(|error| error.to_string())?;
        String::from_utf8(output.stdout).map_err(|error| error.to_string())
    };
    let opens = |text: &str| {
        let objects = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects.filter(is_null).collect::<Vec<_>>()
    };
    for choice in ["always", "auto"] {
        let text = replay(&["--stacks", choice])?;
        let opens = opens(&text);
        ensure(opens.len() == 5, || text.clone())?;
        opens.iter().try_for_each(|event| has(event, &in_c()))?;
        let again = replay(&["--stacks", choice])?;
        ensure(text == again, || {
            "something else the second time".to_owned()
        })?;
    }
    let without = opens(&replay(&[])?);
    let is_without = without.iter().all(|event| event["stack"].is_null());
    ensure(without.len() == 5 && is_without, || format!("{without:#?}"))
}

/// At exhaustion the line of code stands with what fills the table, and with the call that has failed, also of a process
/// that is gone at once: it had been looked at when it was warned of.
fn of_holders(setting: &Setting) -> Result<(), String> {
    let mut command = tracer::command();
    command
        .args(["watch", "--json", "--stacks", "always", "--comm", "plain"])
        .args(["--warn-at", "50", "--backend"])
        .arg(&setting.backend);
    let tracer = Tracer::start_command(command)?;
    let mut victim = Command::new("sh")
        .args(["-c", &format!("ulimit -n 64; exec {VICTIMS}/plain 40")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let warning = tracer.wait_for(|object| object["type"] == "near_limit")?;
    has(&warning["holders"][0], &in_c())?;
    // One for each byte: it ends with the one that it does not get.
    let mut stdin = victim.stdin.take().ok_or("no stdin")?;
    let written = stdin.write_all(&[b'x'; 60]);
    let event = tracer.wait_for(|object| object["type"] == "exhausted")?;
    // It may have ended before it has read all of them.
    drop(written);
    drop(stdin);
    victim.wait().map_err(|error| error.to_string())?;
    tracer.stop()?;
    let holder = &event["holders"][0];
    ensure(holder["kind"] == "char" && holder["count"] == 61, || {
        format!("{}", event["holders"])
    })?;
    has(holder, &in_c())?;
    has_in(&event, "failed_in", &in_c())
}

/// Starts a command below `leaks`.
fn start_leaks(setting: &Setting, program: &[&str]) -> Result<Child, String> {
    let mut command = tracer::command();
    command.args(["leaks", "--fail", "--json", "--quiet", "--backend"]);
    command.arg(&setting.backend).arg("--").args(program);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())
}

/// What a victim with these arguments has left open.
fn left_by(setting: &Setting, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let victim = format!("{VICTIMS}/plain");
    let mut leaks = start_leaks(setting, &[&[&*victim], arguments].concat())?;
    let mut stdout = leaks.stdout.take().ok_or("no stdout")?;
    let mut ready = [0; 6];
    let outcome = stdout.read_exact(&mut ready);
    outcome.map_err(|error| error.to_string())?;
    // Who ends before anybody has looked at it has no names; nothing says when it was looked at.
    sleep(Duration::from_secs(1));
    drop(leaks.stdin.take());
    let mut text = String::new();
    let outcome = stdout.read_to_string(&mut text);
    outcome.map_err(|error| error.to_string())?;
    let output = leaks
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    ensure(output.status.code() == Some(1), || {
        format!(
            "{:?}: {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let objects = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok());
    let rows = objects.filter(|object: &Value| object["type"] == "outstanding");
    Ok(rows.collect())
}

/// A command is judged when it ends, by what it has left open and where that was opened.
fn left_by_command(setting: &Setting) -> Result<(), String> {
    let rows = left_by(setting, &["5"])?;
    // Five, and three more at the end of its input.
    ensure(rows.len() == 1 && rows[0]["count"] == 8, || {
        format!("{rows:#?}")
    })?;
    has(&rows[0], &in_c())?;
    let output = start_leaks(setting, &["true"])?.wait_with_output();
    let output = output.map_err(|error| error.to_string())?;
    ensure(output.status.success(), || format!("{output:?}"))
}

/// The same file leaked in two ways is two rows.
fn left_by_two_code_paths(setting: &Setting) -> Result<(), String> {
    let rows = left_by(setting, &["6", "two"])?;
    let is_so = rows.len() == 2 && rows[0]["count"] == 5 && rows[1]["count"] == 4;
    ensure(is_so, || format!("{rows:#?}"))?;
    has(&rows[0], &in_c())?;
    let place = |name| format!("/victim.c:{}", line(C, name));
    let other_way = [
        ("open_quietly", place("opens")),
        ("leak_one", place("leaks")),
        ("run_job", place("runs")),
        ("main", place("starts")),
    ];
    has(&rows[1], &other_way)
}

/// Static programs, which open nothing before `main` and end in less time than it takes to read what they have
/// mapped: the kernel's account of their executable is enough for names, or for file and offset.
fn left_by_one_gone_at_once(setting: &Setting) -> Result<(), String> {
    let rows_of = |name: &str| -> Result<Vec<Value>, String> {
        let mut leaks = start_leaks(setting, &[&format!("{VICTIMS}/{name}"), "5"])?;
        drop(leaks.stdin.take());
        let output = leaks
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let objects = text
            .lines()
            .filter(|line| line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(objects
            .filter(|object: &Value| object["type"] == "outstanding")
            .collect())
    };
    let rows = rows_of("short")?;
    ensure(rows.len() == 1 && rows[0]["count"] == 8, || {
        format!("{rows:#?}")
    })?;
    has(&rows[0], &in_c())?;
    let rows = rows_of("shortbare")?;
    let stack = rows.first().and_then(|row| row["stack"].as_array());
    let file = format!("{VICTIMS}/shortbare");
    let is_of_file = |frame: &Value| frame.as_str().is_some_and(|frame| frame.contains(&file));
    let is_whole = stack.is_some_and(|stack| stack.len() > 2 && stack.iter().all(is_of_file));
    ensure(is_whole, || format!("{rows:#?}"))
}
