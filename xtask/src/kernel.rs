//! The kernels fdtrace is tested on.

use std::{fmt, fs, path::PathBuf};

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use crate::workspace;

/// A stock kernel, named for what it is asked for on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 11's
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's
    #[value(name = "6.12")]
    V6_12,
    /// The newest one that Debian has
    #[value(name = "new")]
    New,
}

impl Kernel {
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::New];

    /// The release of Debian that ships it.
    pub(crate) const fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::New => "sid",
        }
    }

    /// Where its files are kept, outside the repository so that every checkout shares them.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join("kernels").join(self.to_string()))
    }

    /// The image to boot, if it has been fetched.
    pub(crate) fn image(self) -> Result<Option<PathBuf>> {
        let image = self.folder()?.join("vmlinuz");
        Ok(image.exists().then_some(image))
    }

    /// The image to boot.
    pub(crate) fn need_image(self) -> Result<PathBuf> {
        self.image()?
            .ok_or_else(|| anyhow!("kernel {self} is not here: run `cargo xtask setup`"))
    }

    /// The package it was taken from.
    pub(crate) fn package(self) -> Option<String> {
        let package = fs::read_to_string(self.folder().ok()?.join("package")).ok()?;
        Some(package.trim().to_owned())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self
            .to_possible_value()
            .expect("no kernel is hidden from the command line");
        formatter.pad(value.get_name())
    }
}
