//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// The target of everything that runs in a guest. Naming it keeps the flags of a static executable
/// away from build scripts and procedural macros, which cannot be static.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the workspace")
}

/// Cargo's target folder, wherever its configuration has put it: this very executable lies there.
pub(crate) fn target() -> PathBuf {
    let executable = env::current_exe().unwrap_or_default();
    let marked = executable
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.map_or_else(|| root().join("target"), Path::to_owned)
}

/// What is fetched once for all checkouts.
pub(crate) fn cache() -> Result<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || env::home_dir().map(|home| home.join(".cache"));
    let cache = given
        .or_else(home)
        .context("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(cache.join("fdtrace"))
}

/// The cargo that runs this, at the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}
