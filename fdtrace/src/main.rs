//! fdtrace's entry: parse, run, exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    fdtrace::commands::main()
}
