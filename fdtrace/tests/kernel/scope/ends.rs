//! Processes given with `--pid` that end: each is told, and with the last one fdtrace ends.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Setting, ensure, gym::Gym, tracer::Tracer, trial};

pub(super) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("scope::{name}"), move || test(&setting))
    };
    vec![
        test("ends_with_the_last_process", ends_with_the_last),
        test("ends_with_the_last_child", ends_with_the_last_child),
        test("every_stream_ends", every_stream_ends),
        test("name_that_is_no_text", name_that_is_no_text),
    ]
}

fn has_ended(pid: u32) -> String {
    format!("process {pid} has ended")
}

const NOTHING_LEFT: &str = "nothing is left to follow";

/// What it fails with just before its end is told first.
fn ends_with_the_last(setting: &Setting) -> Result<(), String> {
    let (mut first, first_pid) = Gym::waiting::<&str>("openat", &[])?;
    let (mut second, second_pid) = Gym::waiting::<&str>("openat", &[])?;
    let pids = format!("{first_pid},{second_pid}");
    let tracer = Tracer::start(&setting.backend, &["-p", &pids])?;
    first.release()?;
    first.finish()?;
    tracer.wait_until_said(&has_ended(first_pid))?;
    second.release()?;
    second.finish()?;
    let ended = tracer.wait()?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    for words in [has_ended(second_pid).as_str(), NOTHING_LEFT] {
        ensure(ended.stderr.contains(words), || ended.stderr.clone())?;
    }
    let told = ended.objects.iter();
    let told = told.filter(|object| object["type"] == "exhausted");
    let told: Vec<_> = told.map(|object| object["pid"].clone()).collect();
    ensure(told == [first_pid, second_pid], || format!("{told:?}"))?;
    let last = ended.objects.last().map(|object| object["type"].clone());
    ensure(last == Some("summary".into()), || format!("{last:?}"))
}

/// With `--follow`, a child outlives the process that was asked for.
fn ends_with_the_last_child(setting: &Setting) -> Result<(), String> {
    let gym = crate::executable("FDTRACE_GYM", None);
    let mut shell = Command::new("sh");
    // In the background, standard input would be /dev/null.
    shell.args(["-c", "exec 3<&0; \"$0\" openat --wait <&3 & wait", &gym]);
    let (mut victim, child) = Gym::start_waiting(shell)?;
    let parent = victim.started();
    let tracer = Tracer::start(&setting.backend, &["-f", "-p", &parent.to_string()])?;
    let shell = i32::try_from(parent).ok().and_then(Pid::from_raw);
    kill_process(shell.ok_or("no pid")?, Signal::KILL).map_err(|error| error.to_string())?;
    tracer.wait_until_said(&has_ended(parent))?;
    victim.release()?;
    tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == child)?;
    let ended = tracer.wait()?;
    // The shell's status is that of the signal.
    let _ = victim.finish();
    ensure(ended.status.success(), || ended.stderr.clone())?;
    ensure(ended.stderr.contains(NOTHING_LEFT), || ended.stderr)
}

fn every_stream_ends(setting: &Setting) -> Result<(), String> {
    let file = std::env::temp_dir().join(format!("fdtrace-ends-{}", std::process::id()));
    let path = file.display().to_string();
    let streams: [&[&str]; 3] = [&["trace"], &["leaks"], &["record", "-o", &path]];
    for stream in streams {
        let (mut victim, pid) = Gym::waiting::<&str>("openat", &[])?;
        let mut command = crate::tracer::command();
        command.args(stream);
        command.args(["-p", &pid.to_string(), "--backend", &setting.backend]);
        command.arg("--json");
        let tracer = Tracer::start_command(command)?;
        victim.release()?;
        victim.finish()?;
        let ended = tracer.wait();
        let _ = std::fs::remove_file(&file);
        let ended = ended?;
        let is_told = ended.stderr.contains(&has_ended(pid));
        ensure(ended.status.success() && is_told, || {
            format!("{stream:?}: {}: {}", ended.status, ended.stderr)
        })?;
    }
    Ok(())
}

/// A name is any bytes, and neither `--pid` nor `--follow` asks for text.
fn name_that_is_no_text(setting: &Setting) -> Result<(), String> {
    let name = OsStr::from_bytes(b"\xff\xfe(\xf0");
    let arguments = [OsStr::new("--comm"), name];
    let (mut victim, pid) = Gym::waiting("openat", &arguments)?;
    for more in [&[][..], &["--follow"]] {
        let pid = pid.to_string();
        let filter = [&["-p", &pid], more].concat();
        let tracer = Tracer::start(&setting.backend, &filter)?;
        let ended = tracer.stop()?;
        ensure(ended.status.success(), || ended.stderr)?;
    }
    victim.release()?;
    victim.finish().map(drop)
}
