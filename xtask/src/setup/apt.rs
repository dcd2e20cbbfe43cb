//! The distribution's packages.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::command;

/// Those of the packages that are not installed.
pub(super) fn not_installed<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    need_apt(packages)?;
    let format = "-f=${Package} ${db:Status-Status}\\n";
    // It fails when one of them is unknown, and lists the others all the same.
    let query = Command::new("dpkg-query")
        .args(["-W", format])
        .args(packages)
        .output()?;
    let listed = String::from_utf8_lossy(&query.stdout);
    let is_missing = |package: &&str| {
        let installed = format!("{package} installed");
        !listed.lines().any(|line| line == installed)
    };
    Ok(packages.iter().copied().filter(is_missing).collect())
}

/// The versions apt would install, without those it does not know.
pub(super) fn candidates(packages: &[&str]) -> Result<Vec<String>> {
    let policy = command::output(Command::new("apt-cache").arg("policy").args(packages))?;
    let versions = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "));
    Ok(versions
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .collect())
}

/// Those of the packages that this release has.
pub(super) fn known<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut known = Vec::new();
    for package in packages {
        let mut versions = candidates(&[package])?;
        if versions.is_empty() {
            // Apt knows nothing at all before it has its lists.
            update()?;
            versions = candidates(&[package])?;
        }
        if !versions.is_empty() {
            known.push(*package);
        }
    }
    Ok(known)
}

/// Fetches the lists of packages, as far as this user may.
pub(super) fn update() -> Result<()> {
    if is_root() {
        command::run(Command::new("apt-get").args(["-qq", "update"]))
    } else {
        Ok(())
    }
}

/// What they and all that they need take, in apt's words: to download, and of the disk; `None`: apt does not say.
pub(super) fn size(packages: &[&str]) -> Option<String> {
    // It fetches and installs nothing then, and needs no lock. `--assume-no` installs what it need not ask about.
    let mut apt = Command::new("apt-get");
    apt.args([
        "install",
        "--print-uris",
        "--yes",
        "--no-install-recommends",
    ])
    .args(packages)
    .env("LC_ALL", "C");
    size_in(&command::output(&mut apt).ok()?)
}

fn size_in(said: &str) -> Option<String> {
    let between = |before: &str, after: &str| {
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix(before)?.strip_suffix(after))
    };
    let archives = between("Need to get ", " of archives.")?;
    let disk = between(
        "After this operation, ",
        " of additional disk space will be used.",
    )?;
    Some(format!("{archives} to download, {disk} of the disk"))
}

/// The command that installs packages.
pub(super) fn installs(packages: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    apt
}

/// Installs the packages, and says so.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut apt = installs(packages);
    let typed = command::text(&apt);
    if !is_root() {
        bail!("only root installs packages: run `sudo apt-get update && sudo {typed}`, then again");
    }
    eprintln!("xtask: {typed}");
    // Quiet, and with defaults for whatever a package would like to ask.
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "-o", "Dpkg::Use-Pty=0"]);
    command::run(&mut apt)
}

/// Whether this user may install packages.
pub(super) fn is_root() -> bool {
    command::output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0")
}

fn need_apt(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this is not a Debian, so install yourself what it calls {}",
            packages.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_take_is_what_apt_says() {
        let said = "0 upgraded, 3 newly installed, 0 to remove and 132 not upgraded.\n\
                    Need to get 44.0 kB of archives.\n\
                    After this operation, 198 kB of additional disk space will be used.\n\
                    'http://example.org/sl_5.02-1_amd64.deb' sl_5.02-1_amd64.deb 13172 MD5Sum:8457\n";
        let size = Some("44.0 kB to download, 198 kB of the disk".to_owned());
        assert_eq!(size_in(said), size);
        assert_eq!(size_in("E: Unable to locate package sl\n"), None);
    }
}
