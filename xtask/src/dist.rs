//! What is handed out: one static executable with all that belongs to it, as an archive and as packages.
//!
//! Two builds of one commit are equal byte for byte, wherever they were made: no path of the machine is in them, and
//! every time is that of the commit.

mod again;
mod archive;
mod checks;
mod components;
mod packages;
mod sizes;
mod stage;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

pub(crate) use self::checks::PACKAGES as CHECK_PACKAGES;
use self::{components::Component, stage::Stage};
use crate::{build, command, workspace};

/// What a distribution is made of, and when its sources were.
#[derive(Debug)]
struct Release {
    version: &'static str,
    /// Seconds since 1970: the commit's.
    time: u64,
    /// The crates that are in the executable.
    components: Vec<Component>,
}

/// What is made beside the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packages {
    /// Nothing.
    None,
    /// A .deb and an .rpm.
    Made,
    /// These, and the .deb is checked, and whether another folder gives the same executable.
    Checked,
}

/// Builds everything into the folder, and says what there is and how large.
pub(crate) fn run(folder: Option<PathBuf>, wanted: Packages) -> Result<()> {
    let folder = folder.unwrap_or_else(|| workspace::target().join("dist"));
    let folder = std::path::absolute(&folder).context("where is that?")?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION"),
        time: time()?,
        components: components::of_fdtrace()?,
    };
    let executable = build::distributed(release.time)?;
    let stage = Stage::fill(&release, &executable)?;
    let mut files = vec![
        archive::create(&release, &stage, &folder)?,
        components::write_bill(&release, &folder)?,
    ];
    if wanted != Packages::None {
        files.extend(packages::create(&release, &folder)?);
    }
    files.push(archive::checksums(&files, &folder)?);
    sizes::check(&executable, &files)?;
    let package = files
        .iter()
        .find(|file| file.extension() == Some("deb".as_ref()));
    match package {
        Some(package) if wanted == Packages::Checked => {
            checks::run(package)?;
            again::check(&release, &executable)
        }
        _ => Ok(()),
    }
}

/// When the sources were made: `SOURCE_DATE_EPOCH` if it is set, or else the time of the commit.
fn time() -> Result<u64> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return given.parse().context("SOURCE_DATE_EPOCH is no number");
    }
    let mut git = Command::new("git");
    git.current_dir(workspace::root());
    let time = command::output(git.args(["log", "-1", "--format=%ct"]))
        .context("without a repository, set SOURCE_DATE_EPOCH")?;
    time.trim().parse().context("git told no time")
}

/// The name of a file in a folder, for what is printed.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
