//! The archive for every Linux, and the checksums of all files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Release, name, stage::Stage};
use crate::command;

/// An archive with one folder in it, named like the archive: the executable lies on top, so that it can be started
/// where it was unpacked.
pub(super) fn create(release: &Release, stage: &Stage, folder: &Path) -> Result<PathBuf> {
    let archive = folder.join(format!("fdtrace-{}-x86_64-linux.tar.gz", release.version));
    let inside = format!("fdtrace-{}", release.version);
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", release.time))
        .arg("--mode=go-w")
        // `usr/bin/fdtrace` goes to the top, the rest below `share`.
        .arg(format!("--transform=s,^usr/bin/,{inside}/,"))
        .arg(format!("--transform=s,^usr/,{inside}/,"))
        .args(["--use-compress-program", "gzip -9 --no-name"])
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&stage.0)
        .args(["usr/bin/fdtrace", "usr/share"]);
    command::run(&mut tar)?;
    Ok(archive)
}

/// `SHA256SUMS`, for `sha256sum --check`.
pub(super) fn checksums(files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let mut sha256sum = Command::new("sha256sum");
    sha256sum.current_dir(folder);
    sha256sum.args(files.iter().map(|file| name(file)));
    let sums = command::output(&mut sha256sum)?;
    let path = folder.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
