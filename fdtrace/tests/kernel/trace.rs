//! `fdtrace trace` of a shell whose every fd is known.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Setting, ensure, gym, tracer, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if !setting.sees_inside_calls() {
        return vec![trial("trace::by_looking", by_looking)];
    }
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("trace::{name}"), move || test(&setting))
    };
    vec![
        test("shell", shell),
        test("failed", failed),
        test("every_kind", every_kind),
    ]
}

fn trace(backend: &str, arguments: &[&str]) -> Result<Tracer, String> {
    let mut command = tracer::command();
    command
        .args(["trace", "--json", "--backend", backend])
        .args(arguments);
    Tracer::start_command(command)
}

fn events(objects: &[Value], pid: u32) -> Vec<(String, u64, String)> {
    let of_process = |object: &&Value| object["type"] == "fd_event" && object["pid"] == pid;
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    objects
        .iter()
        .filter(of_process)
        .map(|event| {
            (
                text(&event["op"]),
                event["fd"].as_u64().unwrap_or(u64::MAX),
                text(&event["target"]),
            )
        })
        .collect()
}

/// Opens, copies, replaces, closes; what it leaves open closes when it ends.
fn shell(setting: &Setting) -> Result<(), String> {
    let tracer = trace(&setting.backend, &["--comm", "sh"])?;
    let script = "exec 7</proc/self/mounts; exec 8<&7; exec 7</proc/self/status; exec 8<&-";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .spawn()
        .map_err(|error| format!("sh: {error}"))?;
    let pid = child.id();
    child.wait().map_err(|error| format!("sh: {error}"))?;
    // The last thing that it does.
    tracer.wait_for(|object| {
        object["pid"] == pid && object["op"] == "close_exit" && object["fd"] == 7
    })?;
    let ended = tracer.stop()?;
    let events = events(&ended.objects, pid);
    let has = |op: &str, fd: u64, target: &str| {
        let is_it = |event: &&(String, u64, String)| {
            event.0 == op && event.1 == fd && event.2.ends_with(target)
        };
        events.iter().find(is_it).is_some()
    };
    ensure(
        has("dup", 7, "mounts")
            && has("dup", 8, "mounts")
            && has("replace", 7, "status")
            && has("close", 8, "mounts")
            && has("close_exit", 7, "status"),
        || format!("{events:#?}"),
    )
}

/// A hook knows each file's kind as well as an iterator does.
fn every_kind(setting: &Setting) -> Result<(), String> {
    let tracer = trace(&setting.backend, &["--comm", "kinds"])?;
    let mut victim = gym::Gym::start(gym::command("kinds"))?;
    let facts = victim.held()?;
    let last = facts.kinds.keys().next_back().ok_or("no kinds")?;
    tracer.wait_for(|object| object["op"] == "open" && object["fd"] == *last)?;
    victim.end()?;
    let ended = tracer.stop()?;
    let is_its = |event: &&Value| event["pid"] == facts.pid && event["op"] == "open";
    for (fd, kind) in &facts.kinds {
        // What was there before, for a moment, came earlier.
        let mut events = ended.objects.iter().rev().filter(is_its);
        let event = events.find(|event| event["fd"] == *fd);
        ensure(event.is_some_and(|event| event["kind"] == *kind), || {
            format!("fd {fd} is of kind {kind}, not {event:?}")
        })?;
    }
    Ok(())
}

/// A call that gets no fd, and nothing else.
fn failed(setting: &Setting) -> Result<(), String> {
    let tracer = trace(&setting.backend, &["--failed"])?;
    let facts = gym::run("openat", &[])?;
    let event = tracer.wait_for(|object| object["pid"] == facts.pid)?;
    let ended = tracer.stop()?;
    ensure(
        event["op"] == "failed" && event["errno"] == "EMFILE" && event["call"] == "openat",
        || event.to_string(),
    )?;
    let of_process = |object: &&Value| object["pid"] == facts.pid;
    let count = ended.objects.iter().filter(of_process).count();
    ensure(count == 1, || format!("{count} lines"))
}

/// Census sees what is there when it looks.
fn by_looking() -> Result<(), String> {
    let tracer = trace("census", &[])?;
    let mut holder = gym::Gym::start({
        let mut command = gym::command("hold");
        command.args(["--count", "3"]);
        command
    })?;
    let facts = holder.held()?;
    let is_its = |object: &Value| object["pid"] == facts.pid;
    tracer.wait_for(|object| is_its(object) && object["op"] == "open" && object["fd"] == 5)?;
    holder.end()?;
    tracer.wait_for(|object| is_its(object) && object["fd"] == 5 && object["op"] != "open")?;
    tracer.stop().map(drop)
}
