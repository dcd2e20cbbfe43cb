//! The main job, shown where nothing but QEMU runs: a service that leaks, and fdtrace's report.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Result;

use crate::{build, kernel::Kernel, vm};

/// Watches first; then the service fills its table, one file every few milliseconds, and goes on.
const SCRIPT: &str = "fdtrace watch -d 8 & watch=$!
sleep 2
gym leak --comm leaky-service --limit 64 --seconds 4 >/dev/null &
wait $watch";

/// Boots the newest kernel and lets the two run beside each other.
pub(crate) fn run() -> Result<u8> {
    let kernel = Kernel::New;
    let package = kernel.package().unwrap_or_default();
    println!("Booting {package} in QEMU, where leaky-service may have 64 files open and");
    println!("never closes one. What follows is printed by `fdtrace watch -d 8`.\n");
    io::stdout().flush()?;
    let command = ["sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    let mut request = vm::Request::new(kernel, command);
    request
        .files
        .push((build::fdtrace()?, "/bin/fdtrace".into()));
    request.files.push((build::gym()?, "/bin/gym".into()));
    request.limit = Duration::from_mins(2);
    request.terminal = io::stdout().is_terminal();
    vm::run(&request, &mut io::stdout())?.status()
}
