//! Millions of failures: few objects, the first at once, and not one failure unaccounted for.

use libtest_mimic::Trial;

use super::{
    Setting, ensure, gym,
    tracer::{Tracer, failures, of_process},
    trial,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let storm = |name: &str, arguments: &'static [&'static str], kinds| {
        let (setting, scenario) = (
            setting.clone(),
            name.split("::").nth(1).unwrap_or(name).to_owned(),
        );
        trial(name, move || {
            check(
                &setting,
                scenario.trim_end_matches("_threads"),
                arguments,
                kinds,
            )
        })
    };
    // Long enough for several reports, a second apart. kretprobes cost thousands of emulated instructions a
    // hit.
    let count: &[&str] = match (&*setting.backend, setting.is_guest) {
        ("kprobe", _) => &["--count", "200000"],
        (_, true) => &["--count", "2000000"],
        _ => &["--count", "5000000"],
    };
    vec![
        storm("storm::storm", count, 1),
        storm("storm::storm_mixed", &["--count", "100001"], 2),
        storm(
            "storm::storm_threads",
            &["--count", "100001", "--threads", "4"],
            1,
        ),
    ]
}

fn check(setting: &Setting, scenario: &str, arguments: &[&str], kinds: u64) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let start = std::time::Instant::now();
    let (mut victim, pid) = gym::Gym::waiting(scenario, arguments)?;
    victim.release()?;
    let first = tracer.wait_for(|object| object["pid"] == pid)?;
    ensure(first["repeats"] == 0, || {
        format!("not told at once: {first}")
    })?;
    let facts = victim.finish()?;
    let seconds = start.elapsed().as_secs();
    let ended = tracer.stop()?;
    let objects = of_process(&ended.objects, facts.pid);
    let told = failures(&objects);
    // Threads that are preempted inside a program keep the others' calls on that CPU from it; the
    // kernel counts these, and fdtrace must own up to each.
    let losses = ended
        .objects
        .iter()
        .filter(|object| object["type"] == "loss");
    let skipped = losses.filter(|loss| loss["where"] == "skipped");
    let skipped: u64 = skipped.filter_map(|loss| loss["count"].as_u64()).sum();
    ensure(told + skipped == facts.failures, || {
        let made = facts.failures;
        format!("{told} failures told, {skipped} skipped by the kernel, {made} made")
    })?;
    ensure(skipped == 0 || arguments.contains(&"--threads"), || {
        format!("{skipped} calls of a single thread skipped")
    })?;
    let most = kinds * (seconds + 2);
    let count = objects.len() as u64;
    ensure(count <= most, || format!("{count} objects in {seconds} s"))?;
    let summary = ended.objects.last().ok_or("no objects")?;
    ensure(summary["lost"] == skipped, || format!("lost: {summary}"))
}
