//! Programs that use select(2): a higher limit ends them, and none is offered.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::Gym,
    tracer::Tracer,
    trial,
    victim::{self, Server, Waits},
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("select::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("called", called),
        test("not_called_by_a_sleeper", not_called_by_a_sleeper),
    ];
    if setting.is_guest || !victim::can_build() {
        println!("skipped: select::imported: no compiler here");
    } else {
        trials.push(test("imported", imported));
    }
    trials
}

fn of(kind: &'static str, pid: u32) -> impl Fn(&Value) -> bool {
    move |object| object["type"] == kind && object["pid"] == pid
}

/// Lines to type that set a limit.
fn limits(object: &Value) -> Vec<&str> {
    let remedies = object["remedy"].as_array().into_iter().flatten();
    let commands = remedies.filter_map(|remedy| remedy["command"].as_str());
    commands
        .filter(|command| command.contains("nofile") || command.contains("NOFILE"))
        .collect()
}

/// Without a hook, whoever waits in select is seen when the tables are looked at: a second victim's warning says that
/// this has been done.
fn called(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (mut victim, pid) = Gym::waiting::<&str>("select_dup", &[])?;
    tracer.wait_for(of("near_limit", pid))?;
    let (other, other_pid) = Gym::waiting::<&str>("select_dup", &[])?;
    tracer.wait_for(of("near_limit", other_pid))?;
    victim.release()?;
    let object = tracer.wait_for(of("exhausted", pid))?;
    ensure(object["select"] == "called", || format!("{object:#}"))?;
    // Nine tenths of 1024.
    ensure(object["select_nfds"] == 922, || format!("{object:#}"))?;
    let typed = limits(&object);
    ensure(typed.is_empty(), || format!("{typed:?}"))?;
    let remedies = object["remedy"].as_array().ok_or("no remedies")?;
    let now = remedies.iter().find(|remedy| remedy["when"] == "now");
    let why = now.and_then(|remedy| remedy["why"].as_str());
    let says_why = why.is_some_and(|why| why.contains("select(2)") && why.contains("1023"));
    ensure(says_why, || format!("{remedies:#?}"))?;
    victim.held()?;
    victim.end()?;
    other.end()?;
    tracer.stop().map(drop)
}

/// To sleep, programs call select without sets: such a one is offered a higher limit.
fn not_called_by_a_sleeper(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (mut victim, pid) = Gym::waiting::<&str>("select_sleep", &[])?;
    victim.release()?;
    let object = tracer.wait_for(of("exhausted", pid))?;
    ensure(object["select"] != "called", || format!("{object:#}"))?;
    ensure(!limits(&object).is_empty(), || format!("{object:#}"))?;
    victim.held()?;
    victim.end()?;
    tracer.stop().map(drop)
}

/// A hint: the limit is offered, with a warning.
fn imported(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    for (waits, by_import) in [(Waits::Select, true), (Waits::Epoll, false)] {
        let server = Server::start(waits, 256, "", "fill")?;
        let object = tracer.wait_for(of("exhausted", server.pid()))?;
        let wanted = if by_import { "imported" } else { "no" };
        ensure(object["select"] == wanted, || format!("{object:#}"))?;
        let by = object["select_by"].as_str();
        ensure(
            by.is_some_and(|by| by.contains("fdtrace-server")) == by_import,
            || format!("{object:#}"),
        )?;
        let remedies = object["remedy"].as_array().ok_or("no remedies")?;
        let now = remedies.iter().find(|remedy| remedy["when"] == "now");
        let now = now.ok_or("nothing to do now")?;
        ensure(now["command"].is_string(), || format!("{now:#}"))?;
        let warning = now["warning"].as_str().unwrap_or_default();
        ensure(warning.contains("imports select(2)") == by_import, || {
            format!("{now:#}")
        })?;
    }
    tracer.stop().map(drop)
}
