//! Several fdtraces at once: the self-test of one is no alarm to another, and a real failure of one is.

use libtest_mimic::Trial;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use super::as_nobody;
use crate::{
    Setting, ensure,
    gym::{self, Gym},
    tracer::{self, Ended, Tracer},
    trial,
};

pub(super) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("scope::{name}"), move || test(&setting))
    };
    vec![
        test("self_tests_are_nobodys_alarm", self_tests),
        test("fdtrace_that_runs_out_is_told", real_failure),
        test("mark_needs_privilege", mark_needs_privilege),
    ]
}

fn is_exhausted(object: &Value) -> bool {
    object["type"] == "exhausted"
}

/// Both ways: whoever starts later is nothing to those that run, on any backend.
fn self_tests(setting: &Setting) -> Result<(), String> {
    let first = Tracer::start(&setting.backend, &[])?;
    let second = Tracer::start("census", &[])?;
    let third = Tracer::start(&setting.backend, &[])?;
    let doctor = tracer::command().arg("doctor").output();
    doctor.map_err(|error| format!("starting fdtrace: {error}"))?;
    // What comes behind all of them shows that all has been seen.
    let facts = gym::run("openat", &[])?;
    for tracer in [first, second, third] {
        tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == facts.pid)?;
        only(&tracer.stop()?, facts.pid)?;
    }
    Ok(())
}

/// This process has run out, and nobody else has.
fn only(ended: &Ended, pid: u64) -> Result<(), String> {
    let others = ended.objects.iter().filter(|object| is_exhausted(object));
    let others: Vec<_> = others.filter(|object| object["pid"] != pid).collect();
    ensure(others.is_empty(), || format!("{others:#?}"))
}

/// An fdtrace at its own limit fails in what it looks up of others.
fn real_failure(setting: &Setting) -> Result<(), String> {
    let healthy = Tracer::start(&setting.backend, &[])?;
    let full = Tracer::start(&setting.backend, &[])?;
    let pid = i32::try_from(full.pid()).ok().and_then(Pid::from_raw);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    prlimit(pid, Resource::Nofile, none).map_err(|error| format!("prlimit: {error}"))?;
    gym::run("openat", &[])?;
    let pid = full.pid();
    healthy.wait_for(|object| object["type"] == "exhausted" && object["pid"] == pid)?;
    healthy.stop()?;
    full.stop().map(drop)
}

/// Whoever cannot load programs cannot hide a failure by the mark that self-tests bear.
fn mark_needs_privilege(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let hidden = gym::run("dup_marked", &[])?;
    let mut nobody = as_nobody("dup_marked")?;
    nobody.release()?;
    let shown = nobody.finish()?;
    tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == shown.pid)?;
    in_user_namespace(&tracer)?;
    let ended = tracer.stop()?;
    let is_shown = ended
        .objects
        .iter()
        .any(|object| object["pid"] == hidden.pid);
    ensure(!is_shown, || {
        format!("the mark of a privileged process does not count: {hidden:?}")
    })
}

/// All capabilities of a namespace that anybody can make are no privilege.
fn in_user_namespace(tracer: &Tracer) -> Result<(), String> {
    let gym = crate::executable("FDTRACE_GYM", None);
    let mut command = std::process::Command::new("unshare");
    command.args(["-U", "-r", &gym, "dup_marked"]);
    let facts = Gym::start(command)?.finish()?;
    tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == facts.pid)?;
    Ok(())
}
