//! cgroups that are removed and made again while fdtrace watches them.

use std::{path::Path, process::Command};

use libtest_mimic::Trial;

use super::{Cgroup, mount};
use crate::{
    Setting, ensure,
    gym::{self, Gym},
    tracer::Tracer,
    trial,
};

/// How often the cgroup is made again.
const TIMES: usize = 10;

pub(super) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("scope::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("cgroup_made_anew", made_anew),
        test("cgroup_of_several_gone", of_several_gone),
    ];
    if !setting.is_guest {
        // busybox's unshare makes no cgroup namespaces, and paths are read in user space.
        trials.push(test("cgroup_namespace_of_its_own", namespace_of_its_own));
    }
    trials
}

/// From a cgroup namespace of its own (`docker run` without `--cgroupns=host`), fdtrace calls cgroups as everybody else
/// does: in reports, in warnings and in what it is asked for.
fn namespace_of_its_own(setting: &Setting) -> Result<(), String> {
    let name = format!("fdtrace-namespace-{}", std::process::id());
    let own = Cgroup::new(mount()?.join(format!("{name}-own")))?;
    let other = Cgroup::new(mount()?.join(&name))?;
    let mut command = Command::new("sh");
    let script = "echo $$ > \"$1/cgroup.procs\" && shift && exec unshare -C \"$0\" \"$@\"";
    command.args(["-c", script, &fdtrace()]).arg(&own.0);
    command.args(["--json", "--backend", &setting.backend, "--warn-at", "90"]);
    let tracer = Tracer::start_command(command)?;
    let mut holder = gym::command("hold");
    holder.args(["--wait", "--count", "61", "--limit", "64"]);
    let (mut holder, pid) = Gym::start_waiting(holder)?;
    other.take(pid)?;
    holder.release()?;
    holder.held()?;
    let warning =
        tracer.wait_for(|object| object["type"] == "near_limit" && object["pid"] == pid)?;
    holder.end()?;
    let facts = born_in(&other.0)?.finish()?;
    let report =
        tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == facts.pid)?;
    tracer.stop()?;
    for told in [warning, report] {
        ensure(told["cgroup"] == format!("/{name}"), || told.to_string())?;
    }
    Ok(())
}

fn fdtrace() -> String {
    crate::executable("FDTRACE_BIN", option_env!("CARGO_BIN_EXE_fdtrace"))
}

/// A victim that is in a cgroup from its first call.
fn born_in(cgroup: &Path) -> Result<Gym, String> {
    let gym = crate::executable("FDTRACE_GYM", None);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "echo $$ > \"$1/cgroup.procs\" && exec \"$0\" openat",
        &gym,
    ]);
    shell.arg(cgroup);
    Gym::start(shell)
}

/// Each process that is ever in it is in scope, and none beside it.
fn made_anew(setting: &Setting) -> Result<(), String> {
    let name = format!("fdtrace-anew-{}", std::process::id());
    let cgroup = Cgroup::new(mount()?.join(&name))?;
    let other = Cgroup::new(mount()?.join(format!("{name}-other")))?;
    let tracer = Tracer::start(&setting.backend, &["--cgroup", &name])?;
    let mut wanted = Vec::new();
    for _ in 0..TIMES {
        cgroup.make_anew()?;
        let inner = Cgroup::new(cgroup.0.join("inner"))?;
        other.make_anew()?;
        born_in(&other.0)?.finish()?;
        wanted.push(born_in(&cgroup.0)?.finish()?.pid);
        wanted.push(born_in(&inner.0)?.finish()?.pid);
    }
    let ended = tracer.stop()?;
    let told = ended.objects.iter();
    let told = told.filter(|object| object["type"] == "exhausted");
    let told: Vec<_> = told.filter_map(|object| object["pid"].as_u64()).collect();
    ensure(told == wanted, || {
        format!(
            "processes {told:?} appeared instead of {wanted:?}: {}",
            ended.stderr
        )
    })
}

/// One that has gone takes nothing from the others, and is an error before the start only.
fn of_several_gone(setting: &Setting) -> Result<(), String> {
    let name = format!("fdtrace-several-{}", std::process::id());
    let stays = Cgroup::new(mount()?.join(&name))?;
    let goes = Cgroup::new(mount()?.join(format!("{name}-goes")))?;
    let gone = goes.0.display().to_string();
    let filter = ["--cgroup", &name, "--cgroup", &gone];
    let tracer = Tracer::start(&setting.backend, &filter)?;
    drop(goes);
    let facts = born_in(&stays.0)?.finish()?;
    tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == facts.pid)?;
    tracer.stop()?;
    gym::run("openat", &[])?;
    let refused = Tracer::start(&setting.backend, &filter);
    ensure(
        refused.is_err_and(|error| error.contains("no cgroup")),
        || format!("{gone} is gone, and fdtrace starts"),
    )
}
