//! The files of a distribution, laid out as they lie on a machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Release, components};
use crate::{command, workspace};

/// A folder that stands for `/`: what is in it goes to the same place. `[package.metadata]` of fdtrace's `Cargo.toml`
/// names it.
#[derive(Debug)]
pub(super) struct Stage(pub(super) PathBuf);

const DOCUMENTS: &str = "usr/share/doc/fdtrace";

/// As in `[package.metadata.deb]`.
const MAINTAINER: &str = "fdtrace developers <fdtrace@localhost>";

/// What lintian finds and is as it should be.
const OVERRIDES: &str = "\
# Whoever hands the package out puts an address of their own here.
fdtrace: bogus-mail-host *
fdtrace: bogus-mail-host-in-debian-changelog *
# It is in no archive of Debian's, where somebody could have asked for it.
fdtrace: initial-upload-closes-no-bugs *
# A static executable that may lie anywhere in memory: it has no libraries, and is none.
fdtrace: shared-library-lacks-prerequisites *
fdtrace: empty-field Depends
";

/// What Debian's packages say in `copyright`: licences that a system has already are not to be repeated.
const LICENCE: &str = "\
The text of the MIT licence is in LICENSE-MIT beside this file, that of the Apache licence in
/usr/share/common-licenses/Apache-2.0. What is linked into the executable, and under which licences, is in LICENSES.
";

/// Where each shell looks for completions.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/fdtrace"),
    ("zsh", "usr/share/zsh/vendor-completions/_fdtrace"),
    ("fish", "usr/share/fish/vendor_completions.d/fdtrace.fish"),
];

impl Stage {
    /// Lays everything out, from nothing.
    pub(super) fn fill(release: &Release, executable: &Path) -> Result<Self> {
        let stage = Self(workspace::target().join("dist-root"));
        if stage.0.exists() {
            fs::remove_dir_all(&stage.0).with_context(|| stage.0.display().to_string())?;
        }
        let bytes = fs::read(executable).with_context(|| executable.display().to_string())?;
        stage.write("usr/bin/fdtrace", &bytes, 0o755)?;
        for (shell, place) in SHELLS {
            let script = said(executable, &["completions", shell])?;
            stage.write(place, script.as_bytes(), 0o644)?;
        }
        stage.pages(executable)?;
        let root = workspace::root();
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            let text = fs::read(root.join(file)).with_context(|| file.to_owned())?;
            stage.write(&format!("{DOCUMENTS}/{file}"), &text, 0o644)?;
        }
        let docs = root.join("docs");
        let entries = fs::read_dir(&docs).with_context(|| docs.display().to_string())?;
        for page in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read(&page).with_context(|| page.display().to_string())?;
            let place = format!("{DOCUMENTS}/docs/{}", super::name(&page));
            stage.write(&place, &text, 0o644)?;
        }
        let notices = components::notices(&release.components)?;
        stage.write(&format!("{DOCUMENTS}/LICENSES"), notices.as_bytes(), 0o644)?;
        let changes = fs::read(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
        let place = format!("{DOCUMENTS}/changelog");
        stage.write(&place, &changes, 0o644)?;
        stage.compress(&place)?;
        stage.for_debian(release)?;
        Ok(stage)
    }

    /// What only Debian's packages have: a list of packages' versions, and why lintian is told to be silent.
    fn for_debian(&self, release: &Release) -> Result<()> {
        let mut date = Command::new("date");
        let date = date.args(["--utc", "--rfc-email", "--date"]);
        let date = command::output(date.arg(format!("@{}", release.time)))?;
        let changelog = format!(
            "fdtrace ({}-1) unstable; urgency=medium\n\n  * What is new is in changelog.gz.\n\n -- {MAINTAINER}  {}\n",
            release.version,
            date.trim()
        );
        self.write("debian/changelog", changelog.as_bytes(), 0o644)?;
        self.write("debian/licence", LICENCE.as_bytes(), 0o644)?;
        self.write("debian/overrides", OVERRIDES.as_bytes(), 0o644)
    }

    /// fdtrace's page, and one a command.
    fn pages(&self, executable: &Path) -> Result<()> {
        let help = said(executable, &["--help"])?;
        let commands = commands(&help);
        if commands.is_empty() {
            bail!("no commands in the help:\n{help}");
        }
        for command in std::iter::once("").chain(commands) {
            let (name, argument) = if command.is_empty() {
                ("fdtrace".to_owned(), "--man-page".to_owned())
            } else {
                let argument = format!("--man-page={command}");
                (format!("fdtrace-{command}"), argument)
            };
            let page = said(executable, &[&argument])?;
            let place = format!("usr/share/man/man1/{name}.1");
            self.write(&place, page.as_bytes(), 0o644)?;
            self.compress(&place)?;
        }
        Ok(())
    }

    fn write(&self, place: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.0.join(place);
        let folder = path.parent().unwrap_or(&self.0);
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, bytes))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// With neither name nor time in it.
    fn compress(&self, place: &str) -> Result<()> {
        let mut gzip = Command::new("gzip");
        command::run(gzip.args(["-9", "--no-name"]).arg(self.0.join(place)))
    }
}

fn said(executable: &Path, arguments: &[&str]) -> Result<String> {
    command::output(Command::new(executable).args(arguments))
}

/// The names of the commands, from the help: the lines below `Commands:` with two spaces in front.
fn commands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_the_help() {
        let help = "Usage: fdtrace\n\nCommands:\n  watch   Show\n            more of it\n  ls      Show\n  help    \
                    Print this\n\nOptions:\n  -p  no command\n";
        assert_eq!(commands(help), ["watch", "ls"]);
    }
}
