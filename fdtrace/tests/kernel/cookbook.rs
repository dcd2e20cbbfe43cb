//! The guide's cookbook: what people are told to find out by hand, answered by one command each.

use std::process::Command;

use libtest_mimic::Trial;

use super::{Setting, ensure, gym::Gym, tracer, trial};

/// The command lines, as the guide has them.
const PATHS: &str = "fdtrace leaks -p PID --older 1s -i 2s -d 8";
const COUNT: &str = "fdtrace ls --count -p PID";

const GUIDE: &str = include_str!("../../../docs/guide.md");

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let name = "cookbook::walk_through";
    if setting.is_guest {
        println!("skipped: {name}: it takes ten seconds, and is the same everywhere");
        return Vec::new();
    }
    let setting = setting.clone();
    vec![trial(name, move || walk_through(&setting))]
}

/// What the command writes to stdout, for this process.
fn typed(line: &str, pid: u32, more: &[&str]) -> Result<String, String> {
    let is_told = GUIDE.contains(&format!("# {}", line.replace("PID", "15959")));
    ensure(is_told, || format!("the guide does not tell `{line}`"))?;
    let mut command: Command = tracer::command();
    let words = line.split_whitespace().skip(1);
    command.args(words.map(|word| {
        if word == "PID" {
            pid.to_string()
        } else {
            word.to_owned()
        }
    }));
    let output = command
        .args(more)
        .output()
        .map_err(|error| format!("fdtrace: {error}"))?;
    ensure(output.status.success(), || format!("{line}: {output:?}"))?;
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// Numbers taken, the limit and the kinds, of the only process in a listing.
fn counted(text: &str) -> Result<(u64, u64, String), String> {
    let row = text.lines().last().unwrap_or_default();
    let words: Vec<_> = row.split_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse().ok();
    let (used, limit) = number(2).zip(number(4)).ok_or_else(|| text.to_owned())?;
    Ok((used, limit, words[6..].join(" ")))
}

fn walk_through(setting: &Setting) -> Result<(), String> {
    let none: &[&str] = &[];
    let (mut service, pid) = Gym::waiting("leak_early_return", none)?;
    let (before, limit, _) = counted(&typed(COUNT, pid, &[])?)?;
    // The limit of the process that runs, not of the shell that asks.
    ensure(limit == 200, || format!("limit {limit}"))?;
    service.release()?;
    let text = typed(PATHS, pid, &["--quiet", "--backend", &setting.backend])?;
    let (after, _, kinds) = counted(&typed(COUNT, pid, &[])?)?;
    // Climbing and never dropping: after eight seconds at twenty a second.
    ensure(after >= before + 100, || {
        format!("{before} and then {after}")
    })?;
    ensure(
        text.contains(" leak, ") && text.contains("minimum open rose"),
        || text.clone(),
    )?;
    // Repeated entries of the same path.
    let largest = text
        .lines()
        .filter(|line| line.contains(" leak_early_retu "));
    let largest = largest.filter(|line| line.ends_with("/gym"));
    ensure(largest.count() >= 2, || text.clone())?;
    // Which types accumulate.
    let files = kinds
        .strip_prefix("file ")
        .and_then(|rest| rest.split(',').next());
    let files = files.and_then(|count| count.trim().parse::<u64>().ok());
    ensure(files.is_some_and(|files| files >= 60), || kinds.clone())?;
    service.held()?;
    service.end()
}
