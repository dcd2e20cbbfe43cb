//! Ten small services under one fdtrace: which of them leak, how fast, and what they hold.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{Facts, Gym, Holder},
    tracer::{self, Tracer, failures, of_process},
    trial,
};

const LEAKING: [&str; 5] = [
    "leak_file",
    "leak_connection",
    "leak_early_return",
    "leak_event_loop",
    "leak_pipe_end",
];

/// With what they are called in the end, when enough has been seen. Census, which looks once a second, sees
/// nothing of bursts.
const BUSY: [(&str, &[&str]); 5] = [
    ("busy_crawler", &["saturation"]),
    ("busy_pool", &["saturation"]),
    ("busy_bursts", &["burst", "unknown"]),
    ("busy_cache", &["saturation"]),
    ("busy_cgi", &["saturation"]),
];

/// Five work at once: an emulated machine does not keep up with more.
pub(crate) const TOGETHER: [[&str; 5]; 2] = [
    [
        "leak_file",
        "leak_connection",
        "leak_early_return",
        "busy_crawler",
        "busy_bursts",
    ],
    [
        "leak_event_loop",
        "leak_pipe_end",
        "busy_pool",
        "busy_cache",
        "busy_cgi",
    ],
];

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let mut trials = Vec::new();
    let name = "verdicts::of_ten_services";
    if let Some(reason) = why_not(setting) {
        println!("skipped: {name}: {reason}");
    } else {
        let setting = setting.clone();
        trials.push(trial(name, move || of_ten_services(&setting)));
    }
    trials
}

/// It takes half a minute: verdicts are made of what all backends tell alike, and a kernel of the middle
/// will do beside the newest, which is the one with the soak.
fn why_not(setting: &Setting) -> Option<&'static str> {
    let release = rustix::system::uname();
    let is_chosen = release.release().to_bytes().starts_with(b"6.1.")
        || std::env::var_os("FDTRACE_SOAK_SECONDS").is_some();
    match (&*setting.backend, setting.is_guest) {
        ("kprobe", _) => Some("fentry tells the same"),
        ("fentry", true) if !is_chosen => Some("on 6.1 and the newest kernel only"),
        _ => None,
    }
}

/// Percent at which enough has been seen of what leaks twenty fds a second. Census comes to know a table up to two
/// seconds later, and what it knows is a second old.
pub(crate) fn mark(setting: &Setting) -> &'static str {
    if setting.sees_inside_calls() {
        "75"
    } else {
        "85"
    }
}

fn of_ten_services(setting: &Setting) -> Result<(), String> {
    let watch = Tracer::start(&setting.backend, &["--warn-at", mark(setting)])?;
    let mut leaks = tracer::command();
    leaks.args(["leaks", "--json", "--older", "1s", "--interval", "2s"]);
    // Those whose stack was not taken yet are a row of their own.
    leaks.args(["--top", "100"]);
    leaks.args(["--backend", &setting.backend]);
    let leaks = Tracer::start_command(leaks)?;
    let mut facts = Vec::new();
    for together in TOGETHER {
        facts.extend(work(&together, &watch, &leaks)?);
    }
    let (watch, leaks) = (watch.stop()?, leaks.stop()?);
    let mut wrong = Vec::new();
    for (name, facts) in &facts {
        let checks = match BUSY.iter().find(|(busy, _)| busy == name) {
            Some((_, verdict)) => vec![
                never_a_leak(&watch.objects, facts, verdict),
                never_called_a_leak(&leaks.objects, facts),
                holds_the_true_target(&watch.objects, facts),
            ],
            None => vec![
                is_a_leak(&watch.objects, facts),
                is_outstanding(&leaks.objects, facts),
                holds_the_true_target(&watch.objects, facts),
            ],
        };
        let failed = checks.into_iter().filter_map(Result::err);
        wrong.extend(failed.map(|wrong| format!("{name}: {wrong}")));
    }
    for ended in [&watch, &leaks] {
        if !ended.status.success() {
            wrong.push(format!("{}: {}", ended.status, ended.stderr));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// These services work, until all is told of them, and every failure.
fn work(
    names: &[&'static str],
    watch: &Tracer,
    leaks: &Tracer,
) -> Result<Vec<(&'static str, Facts)>, String> {
    let none: &[&str] = &[];
    let mut services = Vec::new();
    for name in names {
        services.push((*name, Gym::waiting(name, none)?.0));
    }
    for (_, service) in &mut services {
        service.release()?;
    }
    let mut facts = Vec::new();
    for (name, service) in &mut services {
        let told = service.held();
        facts.push((*name, told.map_err(|wrong| format!("{name}: {wrong}"))?));
    }
    for (name, facts) in &facts {
        until_all_is_told(watch, name, facts)?;
        if LEAKING.contains(name) {
            until_outstanding(leaks, name, facts)?;
        }
    }
    for (_, service) in services {
        service.end()?;
    }
    Ok(facts)
}

/// fdtrace tells of repeats once a second.
pub(crate) fn until_all_is_told(watch: &Tracer, name: &str, facts: &Facts) -> Result<(), String> {
    let told = |objects: &[Value]| failures(&of_process(objects, facts.pid)) >= facts.failures;
    watch
        .wait_until(told)
        .map_err(|wrong| format!("{name}: {wrong}"))
}

/// Every one of the fds that leaked is older than a second, a second later.
fn until_outstanding(leaks: &Tracer, name: &str, facts: &Facts) -> Result<(), String> {
    let are_told =
        |objects: &[Value]| outstanding(objects, facts).is_ok_and(|rows| !rows.is_empty());
    leaks.wait_until(are_told).map_err(|wrong| {
        let last = leaks.last(12, |object| object["pid"] == facts.pid);
        let losses = leaks.last(12, |object| object["type"] == "loss");
        format!("{name}, {facts:?}: {last:#?}: {losses:#?}: {wrong}")
    })
}

/// The rows of those blocks in which all that leaked is told, whichever code paths have opened it, but for as many as
/// fdtrace says that it was kept from: other tests load programs meanwhile, and while bpf(2) runs on a CPU, kernels enter no
/// kprobe's program there. Where it is not known how fds came to be, those that the process was started with are
/// counted; a listener is a socket as its clients are, where nobody tells the ends of sockets.
fn outstanding<'a>(objects: &'a [Value], facts: &Facts) -> Result<Vec<&'a Value>, String> {
    let holder = truth(facts)?;
    let mut groups: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    for row in objects {
        if row["type"] == "outstanding" && row["pid"] == facts.pid && row["kind"] == *holder.kind {
            let block = (row["time"].to_string(), row["target"].to_string());
            groups.entry(block).or_default().push(row);
        }
    }
    let skipped = objects
        .iter()
        .filter(|object| object["type"] == "loss" && object["where"] == "skipped");
    let skipped: u64 = skipped.filter_map(|loss| loss["count"].as_u64()).sum();
    let range = facts.operations.saturating_sub(skipped)..=holder.count + 1;
    let is_all = |rows: &Vec<&Value>| {
        let counts = rows.iter().filter_map(|row| row["count"].as_u64());
        range.contains(&counts.sum())
    };
    Ok(groups.into_values().filter(is_all).flatten().collect())
}

fn truth(facts: &Facts) -> Result<&Holder, String> {
    facts.holder.as_ref().ok_or_else(|| format!("{facts:?}"))
}

/// Fds a minute.
#[expect(clippy::cast_precision_loss, reason = "a third is exact enough")]
fn true_growth(facts: &Facts) -> Result<f64, String> {
    let ns = facts.ns.ok_or("no time")?;
    Ok(facts.operations as f64 * 60e9 / ns as f64)
}

fn growth_is_true(verdict: &Value, facts: &Facts) -> Result<(), String> {
    let growth = verdict["growth_per_min"].as_f64().unwrap_or_default();
    let wanted = true_growth(facts)?;
    ensure((growth - wanted).abs() <= 0.3 * wanted, || {
        format!("{growth} instead of {wanted} a minute: {verdict}")
    })
}

/// It fails once, when enough has been seen, and a warning comes before.
pub(crate) fn is_a_leak(objects: &[Value], facts: &Facts) -> Result<(), String> {
    let reports = of_process(objects, facts.pid);
    let [report] = &*reports else {
        return Err(format!("{} reports", reports.len()));
    };
    let verdict = &report["verdict"];
    ensure(verdict["kind"] == "leak", || verdict.to_string())?;
    growth_is_true(verdict, facts)?;
    evidence_is_true(verdict, facts)?;
    let warnings = objects
        .iter()
        .filter(|object| object["type"] == "near_limit" && object["pid"] == facts.pid);
    let warnings: Vec<_> = warnings.collect();
    ensure(warnings.len() == 1, || format!("{warnings:#?}"))?;
    let verdict = &warnings[0]["verdict"];
    ensure(verdict["kind"] == "leak", || verdict.to_string())
}

/// "from A to B": what leaked when it ended, within what a second of it is.
fn evidence_is_true(verdict: &Value, facts: &Facts) -> Result<(), String> {
    let evidence = verdict["evidence"].as_array().ok_or("no evidence")?;
    let numbers = |index: usize| -> Vec<u64> {
        let words = evidence.get(index).and_then(Value::as_str);
        let words = words.unwrap_or_default().split(' ');
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let rise = numbers(0);
    let kept = numbers(1);
    // One is told more of connections that the other end has closed.
    let cohort = numbers(evidence.len() - 1);
    let (a_second, count_of) = (60, truth(facts)?.count);
    let is_true = matches!(&*rise, [from, to, ..] if from < to
        && *to <= facts.soft
        && *to + a_second >= facts.used)
        && matches!(&*kept, [kept, open, ..] if kept <= open && *open <= facts.soft && *kept * 10 >= *open * 9)
        && matches!(&*cohort, [count, of] if *count == count_of && *of == facts.used);
    ensure(is_true, || format!("{verdict} of {facts:?}"))
}

fn is_outstanding(objects: &[Value], facts: &Facts) -> Result<(), String> {
    let rows = outstanding(objects, facts)?;
    let leaks = rows.iter().find(|row| row["verdict"]["kind"] == "leak");
    let row = leaks.ok_or_else(|| format!("not outstanding as {:?}: {rows:#?}", facts.holder))?;
    growth_is_true(&row["verdict"], facts)
}

/// Neither when it has run out nor in a warning.
fn never_a_leak(objects: &[Value], facts: &Facts, wanted: &[&str]) -> Result<(), String> {
    never_called_a_leak(objects, facts)?;
    let reports = of_process(objects, facts.pid);
    let last = reports.last().ok_or("no report")?;
    let verdict = &last["verdict"];
    ensure(
        wanted.iter().any(|wanted| verdict["kind"] == **wanted),
        || format!("in the end none of {wanted:?}, but {verdict}"),
    )
}

fn never_called_a_leak(objects: &[Value], facts: &Facts) -> Result<(), String> {
    let called = objects
        .iter()
        .find(|object| object["pid"] == facts.pid && object["verdict"]["kind"] == "leak");
    called.map_or(Ok(()), |object| Err(format!("called a leak: {object:#}")))
}

/// Of files that are closed a moment later, this is all that the kernel tells.
fn last_part(target: &str) -> &str {
    target.rsplit('/').next().unwrap_or(target)
}

/// The first report was made when the table was full, and says what it was full of.
pub(crate) fn holds_the_true_target(objects: &[Value], facts: &Facts) -> Result<(), String> {
    let holder = truth(facts)?;
    let reports = of_process(objects, facts.pid);
    let report = reports.first().ok_or("no report")?;
    ensure(report["limit"]["soft"] == facts.soft, || {
        format!("limit {}", report["limit"])
    })?;
    let holders = report["holders"].as_array().ok_or("no holders")?;
    let of_kind = holders.iter().filter(|told| told["kind"] == *holder.kind);
    let count: u64 = match &holder.target {
        Some(target) => of_kind
            .filter(|told| told["target"] == **target || told["target"] == *last_part(target))
            .filter_map(|told| told["count"].as_u64())
            .sum(),
        // Each leads somewhere else: the largest groups, and what is left.
        None => of_kind.filter_map(|told| told["count"].as_u64()).sum(),
    };
    let is_largest = holders
        .first()
        .is_some_and(|first| first["kind"] == *holder.kind);
    ensure(is_largest && count == holder.count, || {
        format!("{count} of {holder:?} in {holders:#?}")
    })
}
