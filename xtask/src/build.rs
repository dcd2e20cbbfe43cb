//! Executables, those for guests static: a guest has no libraries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    command,
    ebpf::reproducible,
    workspace::{self, STATIC_TARGET},
};

/// The profile of what runs in guests.
const GUEST: &str = "guest";

/// What a guest needs to run the kernel tests.
#[derive(Debug)]
pub(crate) struct KernelTests {
    /// The tests.
    pub(crate) kernel: PathBuf,
    /// What they test.
    pub(crate) fdtrace: PathBuf,
}

/// fdtrace for this machine, as it is released.
pub(crate) fn release() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    command::run(cargo.args([
        "build",
        "--release",
        "--package",
        "fdtrace",
        "--bin",
        "fdtrace",
    ]))?;
    Ok(workspace::target().join("release/fdtrace"))
}

/// fdtrace for guests.
pub(crate) fn fdtrace() -> Result<PathBuf> {
    static_binary("fdtrace", "fdtrace")
}

/// fdtrace for guests in which its cost is measured: as it is released.
pub(crate) fn released_for_guests() -> Result<PathBuf> {
    static_executable("fdtrace", ["--bin", "fdtrace"], "release")
}

/// fdtrace with slots and alarms alone. Its reader does next to nothing: how it is compiled does not matter.
pub(crate) fn slots() -> Result<PathBuf> {
    static_executable("fdtrace", ["--example", "slots"], GUEST)
}

/// fdtrace as it is handed out: static, and the same wherever it is built. `time` is that of its sources.
pub(crate) fn distributed(time: u64) -> Result<PathBuf> {
    distribute(workspace::root(), &workspace::target(), time, None)
}

/// The same of a copy of the sources in another folder, with a variable of the environment.
pub(crate) fn distributed_of(
    root: &Path,
    time: u64,
    variable: Option<(&str, &Path)>,
) -> Result<PathBuf> {
    distribute(root, &root.join("target"), time, variable)
}

fn distribute(
    root: &Path,
    target: &Path,
    time: u64,
    variable: Option<(&str, &Path)>,
) -> Result<PathBuf> {
    let mut cargo = static_cargo();
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(reproducible::flags(root));
    cargo.current_dir(root).env("CARGO_TARGET_DIR", target);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    cargo.env("SOURCE_DATE_EPOCH", time.to_string());
    cargo.envs(variable);
    cargo.args(["build", "--locked", "--release"]);
    cargo.args(["--package", "fdtrace", "--bin", "fdtrace"]);
    command::run(cargo.args(["--target", STATIC_TARGET]))?;
    Ok(target.join(STATIC_TARGET).join("release/fdtrace"))
}

/// The program that times loads beside tracers.
pub(crate) fn meter() -> Result<PathBuf> {
    static_binary("xtask", "meter")
}

/// What applies made-up records to the model: compiled as it is released, or as for guests, which the
/// tests have to compile anyway.
pub(crate) fn apply(released: bool) -> Result<PathBuf> {
    if !released {
        return static_executable("fdtrace", ["--example", "apply"], GUEST);
    }
    let mut cargo = workspace::cargo();
    command::run(cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "fdtrace",
        "--example",
        "apply",
    ]))?;
    Ok(workspace::target().join("release/examples/apply"))
}

/// The program that brings itself to its limits in every way there is.
pub(crate) fn gym() -> Result<PathBuf> {
    static_binary("xtask", "gym")
}

/// fdtrace's tests on a kernel, which bring fdtrace with them.
pub(crate) fn kernel_tests() -> Result<KernelTests> {
    let mut cargo = static_cargo();
    cargo.args([
        "test",
        "--no-run",
        "--profile",
        GUEST,
        "--package",
        "fdtrace",
        "--test",
        "kernel",
    ]);
    cargo.args([
        "--target",
        STATIC_TARGET,
        "--message-format",
        "json-render-diagnostics",
    ]);
    let messages = command::output(&mut cargo)?;
    let executable = executable(&messages, "kernel");
    let kernel = executable.context("cargo built the kernel tests and did not say where")?;
    Ok(KernelTests {
        kernel,
        fdtrace: fdtrace()?,
    })
}

/// Programs as they are shipped, for guests: what opens fds in them is to be found. Where each is and where
/// it goes; they want a C library there.
pub(crate) fn victims() -> Result<Vec<(PathBuf, PathBuf)>> {
    let folder = workspace::target().join("victims");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let source = workspace::root().join("fdtrace/tests/kernel/stacks");
    let mut files = Vec::new();
    let compiled: [(&str, &str, &str, &[&str]); 10] = [
        ("plain", "cc", "victim.c", &["-O2", "-g"]),
        ("bare", "cc", "victim.c", &["-O2"]),
        (
            "short",
            "cc",
            "victim.c",
            &["-O2", "-g", "-static", "-no-pie"],
        ),
        ("shortbare", "cc", "victim.c", &["-O2", "-s", "-static-pie"]),
        (
            "cpp",
            "g++",
            "victim.cc",
            &["-O2", "-g", "-static-libstdc++", "-static-libgcc"],
        ),
        (
            "rust",
            "rustc",
            "victim.rs",
            &["-O", "-g", "--edition=2024", "-Ctarget-feature=+crt-static"],
        ),
        ("go", "go", "victim.go", &[]),
        ("gobare", "go", "victim.go", &["-ldflags=-s -w"]),
        ("early", "go", "../languages/early.go", &[]),
        ("bodies", "go", "../languages/bodies.go", &[]),
    ];
    for (name, compiler, file, arguments) in compiled {
        let to = folder.join(name);
        let mut command = Command::new(compiler);
        if compiler == "go" {
            // A file by itself, and nothing of C's.
            command.envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0")]);
            command.arg("build");
        }
        command.args(arguments).arg("-o").arg(&to);
        command::run(command.arg(source.join(file)))?;
        files.push((to, Path::new("/victims").join(name)));
    }
    Ok(files)
}

fn static_binary(package: &str, name: &str) -> Result<PathBuf> {
    static_executable(package, ["--bin", name], GUEST)
}

fn static_executable(package: &str, target: [&str; 2], profile: &str) -> Result<PathBuf> {
    let [kind, name] = target;
    let mut cargo = static_cargo();
    cargo.args([
        "build",
        "--quiet",
        "--profile",
        profile,
        "--package",
        package,
        kind,
        name,
    ]);
    command::run(cargo.args(["--target", STATIC_TARGET]))?;
    let mut folder = workspace::target().join(STATIC_TARGET).join(profile);
    if kind == "--example" {
        folder.push("examples");
    }
    Ok(folder.join(name))
}

/// Cargo, told to link everything in.
fn static_cargo() -> Command {
    let mut cargo = workspace::cargo();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo
}

/// Where cargo put the executable of a target, by its own account.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == target;
        is_it
            .then(|| message["executable"].as_str().map(PathBuf::from))
            .flatten()
    })
}
