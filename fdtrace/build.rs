//! Builds the kernel programs and puts the stripped objects into `OUT_DIR` for the library to embed.
//!
//! Not done with aya-build, because that turns every line cargo prints into a warning, takes the
//! choice of the standard library from this process's own environment, and builds the programs anew
//! for every profile and target of the user side.

#[path = "build/compile.rs"]
mod compile;
#[path = "build/reproducible.rs"]
mod reproducible;
#[path = "build/strip.rs"]
mod strip;
#[path = "build/toolchain.rs"]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Set to `1` by editors and documentation builds, which need the types but not the programs.
const SKIP_VARIABLE: &str = "AYA_BUILD_SKIP";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    // Asked when it runs: a compiled script may have come with a target folder from another clone.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not set CARGO_MANIFEST_DIR")?;
    let workspace = Path::new(&package)
        .parent()
        .ok_or("the fdtrace package lies at the root of the file system")?;
    watch(workspace);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    let objects = if env::var_os(SKIP_VARIABLE).is_some_and(|value| value == "1") {
        compile::OBJECTS.map(|_| Vec::new())
    } else {
        let toolchain = toolchain::find()?;
        compile::objects(&toolchain, workspace, &target_dir(&out_dir))?
    };
    for (object, name) in objects.iter().zip(compile::OBJECTS) {
        let stripped = if object.is_empty() {
            Vec::new()
        } else {
            strip::debug_sections(object)?
        };
        let path = out_dir.join(format!("{name}.o"));
        fs::write(&path, stripped)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Tells cargo what to look at to know whether the object is still the right one.
fn watch(workspace: &Path) {
    for variable in [SKIP_VARIABLE, toolchain::OBJECT_VARIABLE] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let sources = [
        "Cargo.lock",
        "fdtrace-ebpf",
        "fdtrace-common",
        "fdtrace/build",
        "fdtrace/build.rs",
    ];
    let sources = sources.map(|source| workspace.join(source));
    let prebuilt = env::var_os(toolchain::OBJECT_VARIABLE).map(PathBuf::from);
    for path in sources
        .into_iter()
        .chain(prebuilt)
        .chain(toolchain::linker())
    {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// One folder beside those of the profiles, so that the programs are compiled once for all of them.
fn target_dir(out_dir: &Path) -> PathBuf {
    // Cargo marks the root of its target folder so that backups leave it out.
    let root = out_dir
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    root.unwrap_or(out_dir).join("ebpf")
}
