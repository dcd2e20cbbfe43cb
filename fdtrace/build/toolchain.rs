//! Finds what compiles Rust for the kernel. Shared by the build script and `cargo xtask`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names an object built elsewhere: for packagers, and for machines without the toolchain.
pub(crate) const OBJECT_VARIABLE: &str = "FDTRACE_EBPF_OBJECT";

/// The target of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A way to get the object with the kernel programs.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// It is there already.
    Prebuilt(PathBuf),
    /// A nightly of rustup's, which compiles `core` from the `rust-src` component.
    Nightly(Compiler),
    /// The distribution's Rust, with its own package of `core` for the kernel.
    Distribution(Compiler),
}

/// One installation of Rust.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// Its cargo.
    pub(crate) cargo: PathBuf,
    /// Its rustc.
    pub(crate) rustc: PathBuf,
}

impl Compiler {
    fn in_folder(bin: &Path) -> Option<Self> {
        let (cargo, rustc) = (bin.join("cargo"), bin.join("rustc"));
        (cargo.exists() && rustc.exists()).then_some(Self { cargo, rustc })
    }
}

/// The first way that is open on this machine.
pub(crate) fn find() -> Result<Toolchain, String> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(Toolchain::Prebuilt(path))
        } else {
            Err(format!(
                "{OBJECT_VARIABLE} names {}, which is not a file",
                path.display()
            ))
        };
    }
    let toolchain = compiler().ok_or_else(|| {
        format!("no Rust on this machine compiles for {TARGET}: run `cargo xtask setup`")
    })?;
    if linker().is_none() {
        return Err("bpf-linker is not installed: run `cargo xtask setup`".to_owned());
    }
    Ok(toolchain)
}

/// The first compiler for the kernel's target, whether or not its linker is there.
pub(crate) fn compiler() -> Option<Toolchain> {
    nightly()
        .map(Toolchain::Nightly)
        .or_else(|| distribution().map(Toolchain::Distribution))
}

/// bpf-linker on PATH, or where `cargo install` puts it.
pub(crate) fn linker() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&on_path).chain(cargo_bin());
    folders
        .map(|folder| folder.join("bpf-linker"))
        .find(|path| path.is_file())
}

fn cargo_bin() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    Some(
        env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(home)?
            .join("bin"),
    )
}

fn nightly() -> Option<Compiler> {
    // `rustup which` only looks, where `rustup run` may start a download.
    let rustc =
        first_line(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]))?;
    let bin = PathBuf::from(rustc).parent()?.to_owned();
    let source = bin
        .parent()?
        .join("lib/rustlib/src/rust/library/core/Cargo.toml");
    Compiler::in_folder(&bin).filter(|_| source.exists())
}

fn distribution() -> Option<Compiler> {
    let compiler = Compiler::in_folder(Path::new("/usr/bin"))?;
    let sysroot = first_line(Command::new(&compiler.rustc).args(["--print", "sysroot"]))?;
    let library = PathBuf::from(sysroot)
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib");
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    fs::read_dir(library)
        .ok()?
        .flatten()
        .any(is_core)
        .then_some(compiler)
}

fn first_line(command: &mut Command) -> Option<OsString> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout)
        .ok()
        .filter(|_| output.status.success())?;
    text.lines().next().map(OsString::from)
}
