//! The man page, from the definitions of the command line.

use std::io::{self, Write};

use anyhow::{Result, anyhow};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Ended, print_all};
use crate::cli::{Cli, EXAMPLES, OUTCOME};

/// Prints the page of the command, or fdtrace's own where the name is empty.
pub(super) fn run(name: &str) -> Result<Ended> {
    let mut command = Cli::command();
    if name.is_empty() {
        return print_all(|output| print(&command, output));
    }
    let names = command.get_subcommands().map(Command::get_name);
    let known = names.collect::<Vec<_>>().join(", ");
    // Gives each its whole name, and the options that all have.
    command.build();
    let subcommand = command
        .find_subcommand(name)
        .ok_or_else(|| anyhow!("no command {name}: there are {known}"))?;
    print_all(|output| of_command(subcommand, output))
}

/// A command's page: what its help says.
fn of_command(command: &Command, output: &mut impl Write) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let page = command.clone().version(version);
    Man::new(page)
        .source(format!("fdtrace {version}"))
        .render(output)?;
    writeln!(output, ".SH SEE ALSO\n\\fBfdtrace\\fR(1)")
}

/// Writes fdtrace's own page.
///
/// What follows the flags in the help is one text to clap, which would make it a section \"EXTRA\" and
/// fill its lines.
fn print(command: &Command, output: &mut impl Write) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(output)?;
    man.render_name_section(output)?;
    man.render_synopsis_section(output)?;
    man.render_description_section(output)?;
    writeln!(output, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        writeln!(
            output,
            ".TP\n\\fBfdtrace\\-{}\\fR(1)\n{}",
            command.get_name(),
            escape(&about)
        )?;
    }
    man.render_options_section(output)?;
    writeln!(output, ".SH EXAMPLES\n.nf\n{}\n.fi", escape(EXAMPLES))?;
    writeln!(
        output,
        ".SH OUTPUT AND EXIT STATUS\n.nf\n{}\n.fi",
        escape(OUTCOME)
    )?;
    man.render_version_section(output)
}

/// A minus is one to copy, not a hyphen.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}
