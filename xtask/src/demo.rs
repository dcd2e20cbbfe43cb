//! The main job, shown where nothing but QEMU runs: a service that leaks, and fdtrace's report.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Result;

use crate::{build, kernel::Kernel, vm};

const SCRIPT: &str = include_str!("demo/service.sh");

const BEFORE: &str = "\
There, `fdtrace` watches everything, and a service begins to leak: leaky-service may have
120 files open, asks a server twenty times a second, and keeps each connection after the
server has closed it.
";

const AFTER: &str = "
A warning comes before the table is full. A report says which call failed, whether that is a
leak or load, what fills the table, whose limit it is, and what to type. Nothing of it is run.
`cargo xtask run` does on this machine, as root, what `fdtrace` has done in the guest.
";

/// Boots the newest kernel and lets the two run beside each other.
///
/// Status 0 if the service was reported.
pub(crate) fn run() -> Result<u8> {
    let kernel = Kernel::New;
    say("Building fdtrace and the service, which takes some minutes the first time.\n")?;
    let (fdtrace, service) = (build::fdtrace()?, build::gym()?);
    let package = kernel.package().unwrap_or_default();
    say(&format!("Booting a stock kernel in QEMU: {package}.\n"))?;
    say(&format!("{BEFORE}\n"))?;
    let command = ["sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    let mut request = vm::Request::new(kernel, command);
    request.files.push((fdtrace, "/bin/fdtrace".into()));
    request.files.push((service, "/bin/leaky-service".into()));
    request.limit = Duration::from_mins(3);
    request.terminal = io::stdout().is_terminal();
    let status = vm::run(&request, &mut io::stdout())?.status()?;
    if status == 0 {
        say(AFTER)?;
    }
    Ok(status)
}

/// At once, before what a guest or a compiler may have to say.
fn say(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
