//! Finds what compiles Rust for the kernel. Shared by the build script and `cargo xtask`.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names a folder with the objects, built elsewhere: for packagers, and for machines without the toolchain.
pub(crate) const OBJECT_VARIABLE: &str = "FDTRACE_EBPF_OBJECT";

/// The target of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The LLVM that bpf-linker is built with; it cannot read what a newer one wrote.
pub(crate) const LLVM: u32 = 22;

/// The nightlies that are looked for. The second is the newest whose LLVM is not too new.
pub(crate) const NIGHTLIES: [&str; 2] = ["nightly", "nightly-2026-06-15"];

/// A way to get the objects with the kernel programs.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// They are there already, in this folder.
    Prebuilt(PathBuf),
    /// A nightly of rustup's, which compiles `core` from the `rust-src` component.
    Nightly(Compiler),
    /// The distribution's Rust, with its own package of `core` for the kernel.
    Distribution(Compiler),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prebuilt(path) => write!(formatter, "prebuilt objects in {}", path.display()),
            Self::Nightly(compiler) => write!(formatter, "nightly {}", compiler.rustc.display()),
            Self::Distribution(compiler) => {
                write!(formatter, "the distribution's {}", compiler.rustc.display())
            }
        }
    }
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

    /// Whether the linker understands what this compiler writes.
    fn is_readable(&self) -> bool {
        let version = output(Command::new(&self.rustc).arg("-vV")).unwrap_or_default();
        let llvm = version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "));
        let major = llvm.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        major.is_some_and(|major| major <= LLVM)
    }
}

/// The first way that is open on this machine.
pub(crate) fn find() -> Result<Toolchain, String> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE) {
        let path = PathBuf::from(path);
        return if path.is_dir() {
            Ok(Toolchain::Prebuilt(path))
        } else {
            Err(format!(
                "{OBJECT_VARIABLE} names {}, which is not a folder",
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
    NIGHTLIES.into_iter().find_map(|name| {
        // `rustup which` only looks, where `rustup run` may start a download.
        let which = ["which", "--toolchain", name, "rustc"];
        let rustc = PathBuf::from(output(Command::new("rustup").args(which))?.trim_end());
        let bin = rustc.parent()?;
        let source = bin
            .parent()?
            .join("lib/rustlib/src/rust/library/core/Cargo.toml");
        Compiler::in_folder(bin).filter(|compiler| source.exists() && compiler.is_readable())
    })
}

fn distribution() -> Option<Compiler> {
    let compiler = Compiler::in_folder(Path::new("/usr/bin"))?;
    let sysroot = output(Command::new(&compiler.rustc).args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim_end())
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib");
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    let has_core = fs::read_dir(library).ok()?.flatten().any(is_core);
    (has_core && compiler.is_readable()).then_some(compiler)
}

fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout)
        .ok()
        .filter(|_| output.status.success())
}
