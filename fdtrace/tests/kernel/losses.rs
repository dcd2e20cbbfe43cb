//! What is reported as lost is what was lost, and nothing else.

use fdtrace::probe::btf::Btf;
use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure, gym, tracer,
    tracer::{Ended, Tracer},
    trial,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("losses::{name}"), move || test(&setting))
    };
    let mut trials = vec![test("a_table_that_is_not_copied_is_none", not_copied)];
    if setting.sees_inside_calls() {
        trials.push(test("calls_without_a_kretprobe_are_one", without_kretprobe));
    }
    trials
}

fn started(setting: &Setting, arguments: &[&str]) -> Result<Tracer, String> {
    let mut command = tracer::command();
    command
        .args(arguments)
        .args(["--json", "--backend", &setting.backend]);
    Tracer::start_command(command)
}

/// Runs a scenario under fdtrace.
fn under(setting: &Setting, arguments: &[&str], scenario: &str) -> Result<Ended, String> {
    let tracer = started(setting, arguments)?;
    gym::run(scenario, &[])?;
    tracer.stop()
}

/// EMFILE in `dup_fd`, under commands that report failures and those that do not.
fn not_copied(setting: &Setting) -> Result<(), String> {
    for arguments in [
        &["audit"][..],
        &["trace", "--op", "close"],
        &["leaks"],
        &["watch"],
    ] {
        let ended = under(setting, arguments, "fork_nr_open")?;
        ensure(ended.status.success(), || {
            format!("{arguments:?}: {}", ended.stderr)
        })?;
        let summary = ended.objects.last().ok_or("nothing")?;
        let is_right = summary["type"] == "summary" && summary["lost"] == 0;
        ensure(is_right && !ended.stderr.contains("fdtrace: lost "), || {
            format!("{arguments:?}: {summary} {}", ended.stderr)
        })?;
    }
    Ok(())
}

/// More threads in one function than there are kretprobe instances. Kernels from 6.7 on count those that were not
/// seen.
fn without_kretprobe(setting: &Setting) -> Result<(), String> {
    let btf = Btf::from_sys_fs().map_err(|error| error.to_string())?;
    let path = ["perf_event.kprobe.missed"];
    let field = btf.field_any("bpf_link_info", &path);
    let is_counted = field.is_ok_and(|field| field.is_some());
    let tracer = Tracer::start(&setting.backend, &["-v"])?;
    gym::run("forks_at_once", &[])?;
    let is_loss = |object: &Value| object["type"] == "loss" && object["where"] == "skipped";
    if is_counted && setting.backend == "kprobe" {
        tracer.wait_for(is_loss)?;
    }
    let ended = tracer.stop()?;
    let lost = ended.objects.iter().filter(|object| is_loss(object));
    let lost: u64 = lost.filter_map(|object| object["count"].as_u64()).sum();
    ensure(is_counted || lost == 0, || format!("{lost} lost"))
}
