//! Real programs at their limit, on the host: what an operator would see.

use std::{path::Path, process::Command};

use libtest_mimic::Trial;

use super::{Setting, ensure, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if setting.is_guest {
        // A guest has busybox and nothing else.
        return Vec::new();
    }
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("programs::{name}"), move || test(&setting))
    };
    vec![test("python", python)]
}

/// A program that inherits nothing but 0, 1 and 2: what the test itself has open must not count.
pub(crate) fn clean(program: &str) -> Command {
    let launcher =
        "import os, sys; os.closerange(3, 1 << 16); os.execvp(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", launcher, program]);
    command
}

/// A script that opens until it fails, as in everybody's first encounter.
fn python(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["-n", "python3"])?;
    let script = "files = []\nwhile True: files.append(open('/etc/hostname'))";
    let output = clean("sh")
        .args(["-c", "ulimit -Sn 64; exec python3 -c \"$0\"", script])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure(told.contains("Errno 24"), || {
        format!("python3 did not run out of fds: {told}")
    })?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted")?;
    tracer.stop()?;
    let exe = object["exe"].as_str().unwrap_or_default();
    let is_right = object["call"] == "openat"
        && object["cause"] == "rlimit_nofile"
        && object["used"] == 64
        && object["limit"]["soft"] == 64
        && Path::new(exe)
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("python3"));
    ensure(is_right, || object.to_string())
}
