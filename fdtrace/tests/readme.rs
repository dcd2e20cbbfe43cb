//! README and the pages in docs against the command line and each other: what they have people type must exist, and so
//! must what they link to.

use clap::{CommandFactory, Parser};
use fdtrace::cli::Cli;

/// A page for people, and where it is in the repository.
struct Page {
    path: &'static str,
    text: &'static str,
}

macro_rules! pages {
    ($($path:literal)*) => {
        [$(Page { path: $path, text: include_str!(concat!("../../", $path)) }),*]
    };
}

const PAGES: [Page; 8] = pages! {
    "README.md"
    "CONTRIBUTING.md"
    "docs/guide.md"
    "docs/how-it-works.md"
    "docs/limits.md"
    "docs/cost.md"
    "docs/hacking.md"
    "docs/benchmarks.md"
};

/// The lines of all pages, one page after the other.
fn lines() -> impl Iterator<Item = &'static str> {
    PAGES.iter().flat_map(|page| page.text.lines())
}

/// Does any page say this?
fn is_told(words: &str) -> bool {
    PAGES.iter().any(|page| page.text.contains(words))
}

/// The lines of code blocks; those of `text` are output.
fn code() -> impl Iterator<Item = &'static str> {
    let mut fence = None;
    lines().filter_map(move |line| {
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
    let prose = lines().filter(|line| !line.starts_with("```"));
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
        assert!(is_told(&format!("fdtrace {told}")), "{told}");
    }
    for command in command.get_subcommands().chain([&command]) {
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        for flag in flags.filter_map(clap::Arg::get_long) {
            assert!(is_told(&format!("--{flag}")), "--{flag}");
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

/// For somebody whose service is down.
#[test]
fn readme_is_short() {
    let lines = PAGES[0].text.lines().count();
    assert!(lines <= 150, "{lines} lines");
}

/// A heading as it is linked to: in lower case, words joined by hyphens, without marks.
fn anchor(heading: &str) -> String {
    let words = heading.to_lowercase().replace(' ', "-");
    words
        .chars()
        .filter(|letter| letter.is_alphanumeric() || *letter == '-')
        .collect()
}

#[test]
fn links_lead_to_pages_and_headings() {
    let mut count = 0;
    for page in &PAGES {
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in page.text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let wanted = match file.strip_prefix("../") {
                Some(file) => file.to_owned(),
                None if file.is_empty() => page.path.to_owned(),
                None if folder.is_empty() => file.to_owned(),
                None => format!("{folder}/{file}"),
            };
            let found = PAGES.iter().find(|page| page.path == wanted);
            let found = found.unwrap_or_else(|| panic!("{}: {link}", page.path));
            let mut headings = found.text.lines().filter_map(|line| {
                let text = line.trim_start_matches('#');
                (text.len() < line.len()).then(|| anchor(text.trim()))
            });
            let is_there = heading.is_empty() || headings.any(|there| there == heading);
            assert!(is_there, "{}: {link}", page.path);
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} links were found");
}
