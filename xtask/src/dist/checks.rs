//! Are the packages as Debian wants them, and do they go as they came?

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{command, setup, workspace};

/// Releases of Debian whose user space the executable and the package are tried in, the oldest first.
const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

/// Debian's checker, and what makes a small system in a folder.
pub(crate) const PACKAGES: [&str; 2] = ["debootstrap", "lintian"];

/// Runs lintian, then installs the package in a small system of each release, starts it, and purges it.
pub(super) fn run(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    let said = command::output(lintian.args(["--fail-on", "error,warning"]).arg(package))?;
    ensure!(said.trim().is_empty(), "lintian: {said}");
    println!("lintian has nothing to say");
    for release in RELEASES {
        let system = System::create(release)?;
        system.check(package)?;
        println!("Debian {release}: installed, started and purged, nothing left");
    }
    Ok(())
}

/// A small Debian in a folder, for as long as it is wanted.
struct System(PathBuf);

impl System {
    fn create(release: &str) -> Result<Self> {
        let root = workspace::target().join("dist-systems").join(release);
        // Of a run that was interrupted.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        let system = Self(root);
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "--keyring", setup::KEYRING, release]);
        let mirror = setup::mirror()?;
        command::output(debootstrap.arg(&system.0).arg(mirror))?;
        Ok(system)
    }

    fn check(&self, package: &Path) -> Result<()> {
        let inside = self.0.join("root/fdtrace.deb");
        fs::copy(package, &inside).with_context(|| inside.display().to_string())?;
        let before = self.files()?;
        self.run(&["dpkg", "--install", "/root/fdtrace.deb"])?;
        let version = self.run(&["fdtrace", "--version"])?;
        ensure!(version.starts_with("fdtrace "), "{version}");
        self.run(&["dpkg", "--purge", "fdtrace"])?;
        let after = self.files()?;
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        ensure!(left.is_empty(), "other files than before: {left:?}");
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut chroot = Command::new("chroot");
        command::output(chroot.arg(&self.0).args(arguments))
    }

    /// All files but what dpkg writes of its own.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut find = Command::new("find");
        find.current_dir(&self.0)
            .args([".", "-path", "./var", "-prune", "-o", "-print"]);
        Ok(command::output(&mut find)?
            .lines()
            .map(PathBuf::from)
            .collect())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // A left-over is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}
