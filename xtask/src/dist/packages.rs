//! Packages for Debian's and Red Hat's kinds of systems, by cargo-deb and cargo-generate-rpm: what goes into them is
//! in fdtrace's `Cargo.toml`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::Release;
use crate::{
    command,
    workspace::{self, STATIC_TARGET},
};

/// Their versions: a package is to be the same with the same sources.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const CARGO_GENERATE_RPM: (&str, &str) = ("cargo-generate-rpm", "0.21.1");

/// A .deb and an .rpm.
pub(super) fn create(release: &Release, folder: &Path) -> Result<Vec<PathBuf>> {
    let version = release.version;
    let deb = folder.join(format!("fdtrace_{version}-1_amd64.deb"));
    let mut cargo_deb = tool(CARGO_DEB)?;
    cargo_deb
        .args(["--package", "fdtrace", "--no-build", "--no-strip"])
        .args(["--target", STATIC_TARGET, "--output"])
        .arg(&deb);
    let rpm = folder.join(format!("fdtrace-{version}-1.x86_64.rpm"));
    let mut generate_rpm = tool(CARGO_GENERATE_RPM)?;
    generate_rpm
        .args(["--package", "fdtrace", "--target", STATIC_TARGET])
        .args(["--arch", "x86_64", "--output"])
        .arg(&rpm)
        .arg("--source-date")
        .arg(release.time.to_string());
    for tool in [&mut cargo_deb, &mut generate_rpm] {
        tool.env("SOURCE_DATE_EPOCH", release.time.to_string());
        command::run(tool)?;
    }
    Ok(vec![deb, rpm])
}

/// A tool of cargo's, which is compiled when it is first wanted, and kept.
fn tool((name, version): (&str, &str)) -> Result<Command> {
    let folder = workspace::cache()?.join(format!("{name}-{version}"));
    let path = folder.join("bin").join(name);
    if !path.exists() {
        eprintln!("xtask: installing {name} {version} for packages");
        let mut cargo = workspace::cargo();
        cargo.args(["install", "--quiet", "--locked", "--version", version]);
        command::run(cargo.arg("--root").arg(&folder).arg(name))?;
    }
    let mut command = Command::new(path);
    command.current_dir(workspace::root());
    Ok(command)
}
