//! What a report says to type is typed, as it stands: the victim goes on.

use std::{fs, process::Command};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Setting, ensure, gym::Gym, tracer::Tracer, trial};

pub(crate) const NR_OPEN: &str = "/proc/sys/fs/nr_open";
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("remedy::{name}"), move || test(&setting))
    };
    let mut trials = vec![test("of_the_soft_limit", of_the_soft_limit)];
    if setting.is_guest {
        // Raising a hard limit takes a right that not every root has; settings are the whole host's.
        trials.extend([
            test("of_the_hard_limit", of_the_hard_limit),
            test("of_nr_open", of_nr_open),
            test("of_an_uneven_nr_open", of_an_uneven_nr_open),
            test("of_inotify_instances", of_inotify_instances),
        ]);
    }
    trials
}

fn of_the_soft_limit(setting: &Setting) -> Result<(), String> {
    goes_on(
        setting,
        "retry_dup",
        &[],
        "rlimit_nofile",
        "prlimit --pid ",
        None,
    )
}

fn of_the_hard_limit(setting: &Setting) -> Result<(), String> {
    let arguments = ["--limit", "4096"];
    goes_on(
        setting,
        "retry_dup",
        &arguments,
        "rlimit_nofile",
        "prlimit --pid ",
        None,
    )
}

/// The setting is lowered when the victim has its limit, and before it has used it.
fn of_nr_open(setting: &Setting) -> Result<(), String> {
    beyond_nr_open(setting, 2048)
}

/// Tables come in words of 64 slots: newer kernels fail where the last word is not whole, in another function
/// (`alloc_fdtable`).
fn of_an_uneven_nr_open(setting: &Setting) -> Result<(), String> {
    beyond_nr_open(setting, 2000)
}

fn beyond_nr_open(setting: &Setting, lowered: u64) -> Result<(), String> {
    let arguments = ["--limit", "4096"];
    let lowered = Some((NR_OPEN, lowered));
    goes_on(
        setting,
        "retry_dup",
        &arguments,
        "nr_open",
        "sysctl -w fs.nr_open=",
        lowered,
    )
}

fn of_inotify_instances(setting: &Setting) -> Result<(), String> {
    let command = "sysctl -w fs.inotify.max_user_instances=";
    let lowered = Some((INSTANCES, 32));
    goes_on(
        setting,
        "retry_inotify",
        &[],
        "inotify_instances",
        command,
        lowered,
    )
}

/// A setting of the host, and what it was.
pub(crate) struct Lowered {
    path: &'static str,
    before: String,
}

impl Lowered {
    pub(crate) fn new((path, value): (&'static str, u64)) -> Result<Self, String> {
        let before = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        fs::write(path, value.to_string()).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { path, before })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // A test that fails has said so.
        let _ = fs::write(self.path, &self.before);
    }
}

fn goes_on(
    setting: &Setting,
    scenario: &str,
    arguments: &[&str],
    cause: &str,
    begins: &str,
    lowered: Option<(&'static str, u64)>,
) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (mut victim, pid) = Gym::waiting(scenario, arguments)?;
    let lowered = lowered.map(Lowered::new).transpose()?;
    victim.release()?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == pid)?;
    ensure(object["cause"] == cause, || format!("{object:#}"))?;
    let remedies = object["remedy"].as_array().ok_or("no list of remedies")?;
    let now = remedies.iter().find(|remedy| remedy["when"] == "now");
    let command = now.and_then(|remedy| remedy["command"].as_str());
    let command = command.ok_or_else(|| format!("nothing to type: {object:#}"))?;
    ensure(command.starts_with(begins), || command.to_owned())?;
    let has_more = remedies.iter().any(|remedy| remedy["when"] == "permanent");
    ensure(has_more, || format!("nothing for good: {object:#}"))?;
    typed(command)?;
    let facts = victim.finish()?;
    ensure(facts.failures == 1, || format!("{facts:?}"))?;
    drop(lowered);
    let ended = tracer.stop()?;
    let said = |object: &&Value| object["type"] == "exhausted" && object["pid"] == pid;
    let reports = ended.objects.iter().filter(said).count();
    ensure(reports == 1, || format!("{reports} reports"))
}

/// As in a terminal.
pub(crate) fn typed(command: &str) -> Result<(), String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .map_err(|error| format!("sh: {error}"))?;
    ensure(output.status.success(), || format!("{command}: {output:?}"))
}
