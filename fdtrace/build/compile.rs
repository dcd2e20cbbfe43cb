//! Compiles the kernel programs. Shared by the build script and `cargo xtask ebpf`.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    reproducible,
    toolchain::{self, Compiler, TARGET, Toolchain},
};

const PACKAGE: &str = "fdtrace-ebpf";

/// What is built of it: the object for kernels with `bpf_loop`, and the one for those without.
pub(crate) const OBJECTS: [&str; 2] = [PACKAGE, "fdtrace-ebpf-unrolled"];

/// What the outer cargo and rustup say about their own compiler and build. Handed on, it would mean
/// the wrong compiler, or one more compilation for each way to start this one.
const OUTER_PREFIXES: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC",
    "RUSTUP_TOOLCHAIN",
];

/// The rest of it.
const OUTER_NAMES: &[&str] = &[
    "CARGO",
    "CARGO_MAKEFLAGS",
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTFLAGS",
    "TARGET",
];

/// The objects as the linker left them, debug information included.
pub(crate) fn objects(
    toolchain: &Toolchain,
    workspace: &Path,
    target_dir: &Path,
) -> Result<[Vec<u8>; OBJECTS.len()], String> {
    let folder = match toolchain {
        Toolchain::Prebuilt(path) => path.clone(),
        Toolchain::Nightly(compiler) | Toolchain::Distribution(compiler) => {
            let mut cargo = cargo(compiler, workspace, target_dir);
            if matches!(toolchain, Toolchain::Nightly(_)) {
                cargo.args(["-Z", "build-std=core"]);
            } else {
                // aya-ebpf uses one unstable feature, the programs another one: assembler for this target. Named like
                // this, no other crate may.
                let crates = "aya_ebpf,fdtrace_ebpf,fdtrace_ebpf_unrolled";
                cargo.env("RUSTC_BOOTSTRAP", crates);
            }
            run(&mut cargo)?;
            target_dir.join(TARGET).join("release")
        }
    };
    let mut objects = OBJECTS.map(|_| Vec::new());
    for (object, name) in objects.iter_mut().zip(OBJECTS) {
        let path = folder.join(name);
        *object =
            fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    }
    Ok(objects)
}

fn cargo(compiler: &Compiler, workspace: &Path, target_dir: &Path) -> Command {
    let mut cargo = Command::new(&compiler.cargo);
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--bins", "--package", PACKAGE]);
    cargo
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir);
    for (name, _) in env::vars_os().filter(|(name, _)| is_outer(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    cargo.env("RUSTC", &compiler.rustc);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned());
    // BTF is made from the debug information, and without it the verifier refuses callees.
    let mut flags = [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
    ]
    .map(str::to_owned)
    .to_vec();
    // BTF has the paths of the sources.
    flags.extend(reproducible::flags(workspace));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // The user side's release profile would strip the BTF and optimise twice what the linker does.
    cargo.envs([
        ("CARGO_PROFILE_RELEASE_STRIP", "none"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ]);
    if let Some(linker) = toolchain::linker() {
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    }
    cargo
}

fn is_outer(variable: &str) -> bool {
    OUTER_NAMES.contains(&variable)
        || OUTER_PREFIXES
            .iter()
            .any(|prefix| variable.starts_with(prefix))
}

fn run(cargo: &mut Command) -> Result<(), String> {
    let output = cargo
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", cargo.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("the kernel programs do not compile\n{said}"))
}
