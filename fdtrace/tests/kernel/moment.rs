//! What is said of a failure is what was so at the failure, whatever has become of the process since.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{Facts, Gym},
    tracer::{Tracer, of_process},
    trial,
    verdicts::until_all_is_told,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("moment::{name}"), move || test(&setting))
    };
    vec![
        test("bursts", bursts),
        test("bursts_far_apart", bursts_far_apart),
        test("process_has_ended", process_has_ended),
        test("warning_is_of_one_look", warning_is_of_one_look),
    ]
}

/// All that is told of a victim, which works until its end.
fn told(
    setting: &Setting,
    scenario: &str,
    arguments: &[&str],
) -> Result<(Facts, Vec<Value>), String> {
    let watch = Tracer::start(&setting.backend, &[])?;
    let (mut victim, _) = Gym::waiting(scenario, arguments)?;
    victim.release()?;
    let facts = victim.finish()?;
    until_all_is_told(&watch, scenario, &facts)?;
    let ended = watch.stop()?;
    in_order_of_time(&ended.objects)?;
    let reports = of_process(&ended.objects, facts.pid);
    for report in &reports {
        holders_are_of_the_failure(report, &facts)?;
    }
    Ok((facts, reports))
}

fn in_order_of_time(objects: &[Value]) -> Result<(), String> {
    let times = objects.iter().map(|object| object["time"].as_str());
    ensure(times.is_sorted(), || {
        format!("not in order of time: {objects:#?}")
    })
}

/// Nothing but the victim touches its table.
fn holders_are_of_the_failure(report: &Value, facts: &Facts) -> Result<(), String> {
    let holders = report["holders"].as_array().ok_or("no holders")?;
    let counts = holders.iter().filter_map(|holder| holder["count"].as_u64());
    ensure(
        report["used"] == facts.soft
            && report["unlisted"] == 0
            && counts.sum::<u64>() == facts.soft,
        || format!("not what it held: {report:#}"),
    )
}

/// A second after each burst the table is as good as empty.
fn bursts(setting: &Setting) -> Result<(), String> {
    let (_, reports) = told(setting, "bursts", &["--count", "4"])?;
    let kinds: Vec<_> = kinds(&reports);
    ensure(reports.len() >= 4, || format!("{} reports", reports.len()))?;
    ensure(
        !kinds.contains(&"inherited") && !kinds.contains(&"leak"),
        || format!("{kinds:?}"),
    )?;
    // What was known is not taken back.
    ensure(kinds.is_sorted_by_key(|kind| *kind != "unknown"), || {
        format!("{kinds:?}")
    })
}

fn kinds(reports: &[Value]) -> Vec<&str> {
    let kind = |report| -> &str {
        let report: &Value = report;
        report["verdict"]["kind"].as_str().unwrap_or_default()
    };
    reports.iter().map(kind).collect()
}

/// Each is an exhaustion of its own, which is diagnosed by itself.
fn bursts_far_apart(setting: &Setting) -> Result<(), String> {
    let (_, reports) = told(setting, "bursts", &["--count", "2", "--seconds", "7"])?;
    let age = |report: &Value| report["holders"][0]["newest_s"].as_f64();
    let youngest: Vec<_> = reports.iter().map(age).collect();
    // Census knows of fds that were opened since its last look no more than when that was.
    let is_new = |age: &Option<f64>| age.is_some_and(|age| age < 5.0);
    ensure(reports.len() == 4 && youngest.iter().all(is_new), || {
        format!("{youngest:?} in {reports:#?}")
    })
}

/// The second report is written when the process is gone: the same diagnosis, and nothing to type at nobody.
fn process_has_ended(setting: &Setting) -> Result<(), String> {
    let (_, reports) = told(setting, "leak_to_end", &[])?;
    let [first, .., last] = &*reports else {
        return Err(format!("{} reports: {reports:#?}", reports.len()));
    };
    let kinds = kinds(&reports);
    let counts = |report: &Value| {
        let holders = report["holders"].as_array().cloned().unwrap_or_default();
        let count = |holder: &Value| (holder["target"].to_string(), holder["count"].to_string());
        holders.iter().map(count).collect::<Vec<_>>()
    };
    ensure(
        kinds.iter().all(|kind| *kind == kinds[0]) && counts(first) == counts(last),
        || format!("another diagnosis: {reports:#?}"),
    )?;
    let commands = last["remedy"].as_array().ok_or("no remedies")?;
    let commands = commands
        .iter()
        .filter_map(|remedy| remedy["command"].as_str());
    ensure(
        last["ended"] == true
            && commands
                .into_iter()
                .all(|command| !command.contains("--pid")),
        || format!("not said to have ended: {last:#}"),
    )
}

/// How full a growing table is and what it holds are of the same moment: a second apart they differ by twenty.
fn warning_is_of_one_look(setting: &Setting) -> Result<(), String> {
    let watch = Tracer::start(&setting.backend, &["--warn-at", "50"])?;
    let none: &[&str] = &[];
    let (mut victim, pid) = Gym::waiting("leak_file", none)?;
    victim.release()?;
    let warning =
        watch.wait_for(|object| object["type"] == "near_limit" && object["pid"] == pid)?;
    victim.held()?;
    victim.end()?;
    watch.stop()?;
    let holders = warning["holders"].as_array().into_iter().flatten();
    let held: u64 = holders.filter_map(|holder| holder["count"].as_u64()).sum();
    let used = warning["used"].as_u64().unwrap_or_default();
    ensure(held > 0 && used.abs_diff(held) <= 5, || {
        format!("{used} used and {held} held: {warning:#}")
    })
}
