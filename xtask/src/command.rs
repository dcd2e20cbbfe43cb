//! Other programs, with errors that say which one failed and how.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs it in view of the user. Nothing is ever read from the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start `{}`", text(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", text(command));
    }
    Ok(())
}

/// Runs it out of sight, for its standard output. What it says on stderr is kept for the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{}`", text(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed: {}\n{}",
            text(command),
            output.status,
            said.trim_end()
        );
    }
    let name = || format!("`{}` printed something that is not UTF-8", text(command));
    String::from_utf8(output.stdout).with_context(name)
}

/// As one would type it.
pub(crate) fn text(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let _ = if argument.contains([' ', '"', '*', '$']) || argument.is_empty() {
            write!(text, " '{argument}'")
        } else {
            write!(text, " {argument}")
        };
    }
    text
}
