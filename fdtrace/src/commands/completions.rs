//! Completions: the script that a shell loads, and the answers that it asks for at each key.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{CompleteEnv, env::Shells};

use crate::cli::{Cli, Shell};

/// Set by the script to its shell's name when it asks.
const VARIABLE: &str = "FDTRACE_COMPLETE";
const NAME: &str = "fdtrace";

/// Writes the script, which asks the fdtrace on the PATH.
pub(super) fn print(shell: Shell, output: &mut impl Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell.name())
        .ok_or_else(|| io::Error::other(format!("no completions for {}", shell.name())))?;
    completer.write_registration(VARIABLE, NAME, NAME, NAME, output)
}

/// Answers if a shell asks, and ends.
pub(super) fn answer_if_asked() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(Cli::command)
            .var(VARIABLE)
            .complete();
    }
}
