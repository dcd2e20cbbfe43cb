//! Flags that keep the machine's paths out of what is compiled. Shared by the build script and `cargo xtask`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// For rustc: each path of this machine, and what is written in its place.
pub(crate) fn flags(workspace: &Path) -> Vec<String> {
    let home = |variable: &str, folder: &str| {
        let given = env::var_os(variable).map(PathBuf::from);
        given.or_else(|| env::home_dir().map(|home| home.join(folder)))
    };
    let paths = [
        (Some(workspace.to_owned()), "/fdtrace"),
        (home("CARGO_HOME", ".cargo"), "/cargo"),
        (home("RUSTUP_HOME", ".rustup"), "/rustup"),
    ];
    let paths = paths.into_iter().filter_map(|(from, to)| Some((from?, to)));
    let flags = paths.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    flags.collect()
}
