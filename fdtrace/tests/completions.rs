//! Completions, as the shells themselves take them: each loads its script and is asked what comes next.

use std::{
    path::Path,
    process::{Command, Stdio},
};

const FDTRACE: &str = env!("CARGO_BIN_EXE_fdtrace");

/// What the shell prints that runs the script, with fdtrace on its PATH; nothing if there is no such shell.
fn said(shell: &str, arguments: &[&str], script: &str) -> Option<String> {
    let folder = Path::new(FDTRACE).parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(shell)
        .args(arguments)
        .arg(script)
        .env("PATH", format!("{folder}:{path}"))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        println!("skipped: completions of {shell}: not installed here");
        return None;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The words that are offered after these, one of them empty or begun.
fn offered_by_bash(words: &str) -> Option<Vec<String>> {
    let script = format!(
        "source <(fdtrace completions bash)
         COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMP_TYPE=9
         complete -p fdtrace >/dev/null || exit 1
         _clap_complete_fdtrace fdtrace \"${{COMP_WORDS[COMP_CWORD]}}\" 2>/dev/null
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let said = said("bash", &["--norc", "--noprofile", "-c"], &script)?;
    Some(said.lines().map(|line| line.trim().to_owned()).collect())
}

fn has(offered: &[String], word: &str) -> bool {
    offered.iter().any(|line| line == word)
}

#[test]
fn bash_offers_commands_options_and_kinds() {
    let Some(commands) = offered_by_bash("fdtrace ''") else {
        return;
    };
    assert!(
        has(&commands, "leaks") && has(&commands, "ls"),
        "{commands:?}"
    );
    let options = offered_by_bash("fdtrace ls --ki").unwrap();
    assert_eq!(options, ["--kind"]);
    let kinds = offered_by_bash("fdtrace ls --kind ev").unwrap();
    assert!(has(&kinds, "eventfd"), "{kinds:?}");
}

#[test]
fn bash_offers_processes_that_there_are() {
    let own = std::process::id().to_string();
    for words in [
        format!("fdtrace -p {own}"),
        format!("fdtrace ls --pid 1,{own}"),
        format!("fdtrace relieve {own}"),
    ] {
        let Some(offered) = offered_by_bash(&words) else {
            return;
        };
        let is_there = offered
            .iter()
            .any(|line| line.trim_start_matches("1,").starts_with(&own));
        assert!(is_there, "{words}: {offered:?}");
    }
}

#[test]
fn zsh_loads_its_script() {
    let script = "autoload -Uz compinit && compinit -u -D
        source <(fdtrace completions zsh) && print -- $_comps[fdtrace]";
    if let Some(said) = said("zsh", &["-f", "-c"], script) {
        assert_eq!(said, "_clap_dynamic_completer_fdtrace\n");
    }
}

#[test]
fn fish_offers_options() {
    let script = "fdtrace completions fish | source; complete --do-complete 'fdtrace ls --kin'";
    if let Some(said) = said("fish", &["--no-config", "-c"], script) {
        assert!(said.starts_with("--kind\t"), "{said}");
    }
}
