//! A long run: nothing that processes do ends a stream, none of their failures is forgotten, and memory does not
//! grow with them.
//!
//! For as long as every timer of fdtrace takes several times over, which is made possible by shorter timers; with
//! `FDTRACE_SOAK_SECONDS` above [`LONGEST`], for real.

use std::{
    fs,
    path::PathBuf,
    process::Output,
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{self, Facts, Gym},
    tables::soak_time,
    tracer::{self, Ended, Tracer, failures},
    trial,
};

/// The longest of fdtrace's timers: every five minutes it compares its tables with the kernel's.
const LONGEST: Duration = Duration::from_mins(5);
/// They are made so many times shorter.
const SHORTER: u32 = 30;
/// Four times that: caches fill in the first half, and every timer has its turn in the second one.
const TIME: Duration = Duration::from_secs(40);
/// Memory is looked at after half of the time first, or after this.
const FIRST_LOOK: Duration = Duration::from_mins(5);

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let setting = setting.clone();
    let name = "lives::long_run";
    if setting.backend == "kprobe" {
        println!("skipped: {name}: what user space does is the same with fentry");
        return Vec::new();
    }
    vec![trial(name, move || long_run(&setting))]
}

/// A file that `record` writes, and those of a flight recorder beside it; gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let folder = format!("fdtrace-lives-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command that is to live, and its memory at the first look.
struct Patient {
    name: &'static str,
    tracer: Tracer,
    before: u64,
}

impl Patient {
    fn start(
        setting: &Setting,
        scale: &str,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let mut command = tracer::command();
        command.args(arguments);
        command.args(["--backend", &setting.backend, "--time-scale", scale]);
        Ok(Self {
            name,
            tracer: Tracer::start_command(command).map_err(|error| format!("{name}: {error}"))?,
            before: 0,
        })
    }

    fn look(&mut self) -> Result<(), String> {
        self.before = self.tracer.memory()?;
        Ok(())
    }

    /// It is there still, needs no more memory than it did, and ends well when it is told to.
    fn stop(self, ran: Duration) -> Result<Ended, String> {
        let Self {
            name,
            tracer,
            before,
        } = self;
        // One that has ended has no memory.
        let after = tracer
            .memory()
            .map_err(|error| format!("{name} has ended: {error}"));
        let ended = tracer.stop()?;
        let after = after.map_err(|error| format!("{error}: {}", ended.stderr))?;
        println!("{name}: {} kB, then {} kB", before >> 10, after >> 10);
        ensure(ended.status.success(), || {
            format!("{name}: {}: {}", ended.status, ended.stderr)
        })?;
        if let Some(summary) = ended.objects.last() {
            let lasted = summary["duration_s"].as_f64().unwrap_or(0.0);
            ensure(lasted >= ran.as_secs_f64(), || {
                format!("{name} has ended before its time: {summary}")
            })?;
        }
        ensure(after < before + before / 4 + (4 << 20), || {
            format!("{name}: {before} bytes of memory became {after}")
        })?;
        Ok(ended)
    }
}

fn long_run(setting: &Setting) -> Result<(), String> {
    let real = soak_time().filter(|time| *time > LONGEST);
    let scale = if real.is_some() { 1 } else { SHORTER }.to_string();
    let time = real.unwrap_or(TIME);
    let scratch = Scratch::new()?;
    let (recording, flight) = (scratch.path("recording"), scratch.path("flight"));
    let leaks = ["leaks", "--json", "--older", "1s", "--interval", "1s"];
    let commands: [(&str, &[&str]); 5] = [
        ("watch", &["--json"]),
        ("record", &["record", "-o", &recording]),
        ("flight", &["record", "--flight", "1", "-o", &flight]),
        ("leaks", &leaks),
        ("trace", &["trace", "--json", "--failed"]),
    ];
    let mut patients = Vec::new();
    for (name, arguments) in commands {
        // What a recording of half an hour takes is nobody's to spare.
        if real.is_none() || name != "record" {
            patients.push(Patient::start(setting, &scale, name, arguments)?);
        }
    }
    // Others may run the same test on this machine.
    let comm = format!("crowd-{}", std::process::id());
    let start = Instant::now();
    let mut crowd = gym::command("crowd");
    crowd.args(["--comm", &comm, "--seconds", &time.as_secs().to_string()]);
    if real.is_some() {
        // Half an hour is shared with whoever else uses the machine.
        crowd.args(["--count", "6"]);
    }
    let crowd = Gym::start(crowd)?;
    sleep((time / 2).min(FIRST_LOOK));
    patients.iter_mut().try_for_each(Patient::look)?;
    let facts = crowd.finish()?;
    let ran = start.elapsed();
    println!(
        "{} failures of {} processes in {:.0} s",
        facts.failures,
        facts.operations,
        ran.as_secs_f64()
    );
    // Each is judged, whatever has become of the others.
    let judge = |patient: Patient| {
        let name = patient.name;
        let ended = patient.stop(ran)?;
        match name {
            "watch" => all_told(&facts, &comm, &ended.objects, "watch"),
            "record" => all_told(&facts, &comm, &replay(&recording)?, "the recording"),
            "flight" => ensure(!replay(&flight)?.is_empty(), || "an empty file".to_owned()),
            "leaks" => ensure(ended.objects.len() > 1, || "no block".to_owned()),
            _ => ensure(
                ended.objects.iter().any(|event| event["comm"] == *comm),
                || format!("no failure in {} objects", ended.objects.len()),
            ),
        }
    };
    let wrong: Vec<_> = patients
        .into_iter()
        .map(judge)
        .filter_map(Result::err)
        .collect();
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

fn replay(path: &str) -> Result<Vec<Value>, String> {
    let mut command = tracer::command();
    command.args(["--json", "--replay", path]);
    let Output { status, stdout, .. } = command.output().map_err(|error| error.to_string())?;
    ensure(status.success(), || format!("{path}: {status}"))?;
    let text = String::from_utf8_lossy(&stdout);
    let objects = text.lines().map(serde_json::from_str);
    let objects = objects.collect::<Result<_, _>>();
    objects.map_err(|error| format!("{path}: {error}"))
}

/// Each failure is reported, or is a repeat, or the kernel has kept it from fdtrace, which has said so.
fn all_told(facts: &Facts, comm: &str, objects: &[Value], whose: &str) -> Result<(), String> {
    let is_its = |object: &&Value| object["type"] == "exhausted" && object["comm"] == *comm;
    let reports: Vec<_> = objects.iter().filter(is_its).cloned().collect();
    let told = failures(&reports);
    let losses = objects
        .iter()
        .filter(|object| object["type"] == "loss" && object["where"] == "skipped");
    let skipped: u64 = losses.filter_map(|loss| loss["count"].as_u64()).sum();
    println!(
        "{whose}: {} reports of {told} failures, {} of them repeats; {skipped} calls skipped",
        reports.len(),
        told - reports.len() as u64
    );
    let made = facts.failures;
    ensure(told <= made && made - told <= skipped, || {
        format!("{whose}: {told} failures told, {made} made, {skipped} skipped by the kernel")
    })
}
