//! fdtrace on this machine.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Error, Result};

use crate::build;

/// Builds fdtrace and becomes it, so that signals and the exit status are its own.
pub(crate) fn run(arguments: &[String]) -> Result<u8> {
    let fdtrace = build::release()?;
    let error = Command::new(&fdtrace).args(arguments).exec();
    Err(Error::new(error).context(format!("cannot start {}", fdtrace.display())))
}
