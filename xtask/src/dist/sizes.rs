//! How large it is, and how large it may be: somebody copies it to a host in trouble.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::name;

/// Bytes that the executable may have.
const EXECUTABLE: u64 = 10 << 20;

/// Prints the sizes; an error if the executable has outgrown its bound.
pub(super) fn check(executable: &Path, files: &[PathBuf]) -> Result<()> {
    let size = |path: &Path| {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string());
        metadata.map(|metadata| metadata.len())
    };
    let executable = size(executable)?;
    println!("{executable:>10} bytes  the executable (at most {EXECUTABLE})");
    for file in files {
        println!("{:>10} bytes  {}", size(file)?, name(file));
    }
    ensure!(
        executable <= EXECUTABLE,
        "the executable has {executable} bytes, more than {EXECUTABLE}: what has made it so large?"
    );
    Ok(())
}
