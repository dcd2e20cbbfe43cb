//! What goes to stderr: lines for people.

use std::io::{self, Write};

use super::sanitize::one_line;

/// One line on stderr, whether or not anybody reads it. It may hold what a traced process, a recording or a
/// command line says: whatever could steer a terminal is escaped.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "fdtrace: {}", one_line(line));
}
