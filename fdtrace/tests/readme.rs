//! README against the command line: what it tells people to type must be there.

use clap::{CommandFactory, Parser};
use fdtrace::cli::Cli;

const README: &str = include_str!("../../README.md");

/// The lines of README's code blocks; those of `text` are output.
fn code() -> impl Iterator<Item = &'static str> {
    let mut fence = None;
    README.lines().filter_map(move |line| {
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() {
                None
            } else {
                Some(language)
            };
            return None;
        }
        fence.filter(|language| *language != "text").map(|_| line)
    })
}

/// Commands in running text: `` `fdtrace …` ``.
fn spans() -> impl Iterator<Item = &'static str> {
    let prose = README.lines().filter(|line| !line.starts_with("```"));
    prose.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// What fdtrace is given where `line` runs it, up to a comment or a pipe.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let command = line.split(['#', '|', '>']).next()?;
    let words: Vec<_> = command.split_whitespace().collect();
    let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
    if let Some(task) = words.strip_prefix(&["cargo", "xtask"]) {
        let ours = task.iter().position(|word| *word == "--")? + 1;
        return match *task {
            ["run", ..] => Some(task[ours..].to_vec()),
            ["vm", ..] => arguments_of(&task[ours..]),
            _ => None,
        };
    }
    arguments_of(words)
}

fn arguments_of<'a>(words: &[&'a str]) -> Option<Vec<&'a str>> {
    let (program, arguments) = words.split_first()?;
    let is_ours = *program == "fdtrace" || program.ends_with("/fdtrace");
    is_ours.then(|| arguments.to_vec())
}

#[test]
fn commands_are_what_fdtrace_takes() {
    let mut count = 0;
    for line in code().chain(spans()) {
        let Some(arguments) = arguments(line) else {
            continue;
        };
        count += 1;
        let parsed = Cli::try_parse_from([&["fdtrace"], &arguments[..]].concat());
        let is_answer = parsed.as_ref().is_err_and(|error| !error.use_stderr());
        assert!(parsed.is_ok() || is_answer, "{line}: {parsed:?}");
    }
    assert!(count >= 15, "only {count} commands were found");
}

#[test]
fn every_flag_and_command_is_told() {
    let command = Cli::command();
    let commands = command.get_subcommands();
    for told in commands.map(clap::Command::get_name) {
        assert!(README.contains(&format!("fdtrace {told}")), "{told}");
    }
    for command in command.get_subcommands().chain([&command]) {
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        for flag in flags.filter_map(clap::Arg::get_long) {
            assert!(README.contains(&format!("--{flag}")), "--{flag}");
        }
    }
}

#[test]
fn examples_are_lines_of_json() {
    let objects: Vec<serde_json::Value> = code()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert!(objects.iter().any(|object| object["type"] == "exhausted"));
    assert!(objects.iter().all(|object| object["v"] == 1));
}
