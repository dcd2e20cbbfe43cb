//! Is it the same when somebody else builds it?

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::Release;
use crate::{
    build, command,
    ebpf::{self, toolchain::OBJECT_VARIABLE},
    workspace,
};

/// Builds the executable twice more, from a copy of the sources in another folder: with the objects of kernel programs
/// that there are, as a packager does who cannot compile them, and from sources alone. All three are to be equal byte
/// for byte.
pub(super) fn check(release: &Release, executable: &Path) -> Result<()> {
    let first = read(executable)?;
    let copy = Copy::create()?;
    let objects = ebpf::objects();
    let again = build::distributed_of(&copy.0, release.time, Some((OBJECT_VARIABLE, &objects)))?;
    ensure!(
        !copy.0.join("target/ebpf").exists(),
        "kernel programs were compiled although {OBJECT_VARIABLE} named {}",
        objects.display()
    );
    is_equal(&first, executable, &again)?;
    println!("built in another folder, with objects that there were: equal byte for byte");
    let again = build::distributed_of(&copy.0, release.time, None)?;
    is_equal(&first, executable, &again)?;
    println!("built in another folder, from sources alone: equal byte for byte");
    Ok(())
}

fn is_equal(first: &[u8], executable: &Path, again: &Path) -> Result<()> {
    let second = read(again)?;
    let pairs = first.iter().zip(&second);
    let same = pairs.take_while(|(one, other)| one == other).count();
    ensure!(
        first == second,
        "{} ({} bytes) and {} ({} bytes) differ from byte {same} on",
        executable.display(),
        first.len(),
        again.display(),
        second.len()
    );
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A copy of what the repository has, as it is in the working tree, for as long as it is wanted.
struct Copy(PathBuf);

impl Copy {
    fn create() -> Result<Self> {
        let folder = env::temp_dir().join(format!("fdtrace-again-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let copy = Self(folder);
        let mut git = Command::new("git");
        git.current_dir(workspace::root());
        let listed = command::output(git.args(["ls-files", "-z"]))?;
        for path in listed.split_terminator('\0') {
            let (from, to) = (workspace::root().join(path), copy.0.join(path));
            let parent = to.parent().unwrap_or(&copy.0);
            fs::create_dir_all(parent)
                .and_then(|()| fs::copy(&from, &to))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Where it cannot be removed, it lies among other temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
