//! What to type, in two lines.

use std::io::{self, Write};

use crate::diagnose::remedy::{Remedy, When};

/// The first thing to do now, and the first for good.
///
/// Nothing in them steers a terminal, and nothing is escaped: commands are typed as they stand here.
pub(super) fn write_text(output: &mut impl Write, remedies: &[Remedy]) -> io::Result<()> {
    let now = remedies.iter().find(|remedy| remedy.when == When::Now);
    let lasting = remedies.iter().find(|remedy| remedy.when != When::Now);
    for (label, remedy) in [("now", now), ("for good", lasting)] {
        if let Some(remedy) = remedy {
            let what = remedy.command.as_ref().unwrap_or(&remedy.text);
            writeln!(output, "         {label}: {what}")?;
        }
    }
    Ok(())
}
