//! Pythons newer than the distribution's, for tests: each in a root folder of its own, as in a container.

use std::{fmt, path::PathBuf};

use anyhow::Result;

use crate::workspace;

/// The release that they are from.
pub(crate) const SUITE: &str = "sid";

/// What they need beside their own packages.
const LIBRARIES: [&str; 6] = [
    "libc6",
    "libexpat1",
    "libgcc-s1",
    "libsqlite3-0",
    "libzstd1",
    "zlib1g",
];

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Python(&'static str);

impl Python {
    /// All of them, by version.
    pub(crate) const ALL: [Self; 2] = [Self("3.14"), Self("3.15")];

    /// Where it is unpacked, outside the repository so that every checkout shares it.
    pub(crate) fn root(self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join("pythons").join(self.0))
    }

    /// Is it there?
    pub(crate) fn is_there(self) -> bool {
        self.root().is_ok_and(|root| root.exists())
    }

    /// What it consists of.
    pub(crate) fn packages(self) -> Vec<String> {
        let own = [
            format!("python{}-minimal", self.0),
            format!("libpython{}-minimal", self.0),
            format!("libpython{}-stdlib", self.0),
        ];
        let libraries = LIBRARIES.map(str::to_owned);
        own.into_iter().chain(libraries).collect()
    }
}

impl fmt::Display for Python {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Python {}", self.0)
    }
}
