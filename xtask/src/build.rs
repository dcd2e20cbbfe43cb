//! Executables for guests: static, because a guest has no libraries.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    command,
    workspace::{self, STATIC_TARGET},
};

/// fdtrace as it is released.
pub(crate) fn fdtrace() -> Result<PathBuf> {
    binary("fdtrace", "fdtrace")
}

/// The program that brings itself to its limits in every way there is.
pub(crate) fn gym() -> Result<PathBuf> {
    binary("xtask", "gym")
}

fn binary(package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = static_cargo();
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        package,
        "--bin",
        name,
    ]);
    command::run(cargo.args(["--target", STATIC_TARGET]))?;
    Ok(workspace::target()
        .join(STATIC_TARGET)
        .join("release")
        .join(name))
}

/// Cargo, told to link everything in.
fn static_cargo() -> Command {
    let mut cargo = workspace::cargo();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo
}
