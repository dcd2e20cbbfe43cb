//! The man page, from the definitions of the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{Cli, EXAMPLES, OUTCOME};

/// Writes the page.
///
/// What follows the flags in the help is one text to clap, which would make it a section \"EXTRA\" and
/// fill its lines.
pub(super) fn print(output: &mut impl Write) -> io::Result<()> {
    let command = Cli::command();
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
            ".TP\n\\fB{}\\fR\n{}",
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
