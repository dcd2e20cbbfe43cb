//! The things a machine may lack, and how each is installed.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{apt, archive, bpf_linker, compiler};
use crate::{
    command, emulator,
    kernel::Kernel,
    pythons::{self, Python},
};

/// An emulator, the guest's shell, and the keys that Debian's kernels are checked with.
pub(super) const MACHINE_PACKAGES: [&str; 3] = [
    "busybox-static",
    "debian-archive-keyring",
    "qemu-system-x86",
];

/// Programs that are brought to their limit, the load that brings them there, what `fdtrace ls` is compared with,
/// what the fuzzer is compiled by, and the shells that have completions.
pub(super) const TEST_PACKAGES: [&str; 14] = [
    "default-jdk-headless",
    "fish",
    "g++",
    "golang-go",
    "lsof",
    "mariadb-server",
    "nginx",
    "python3",
    "python3-requests",
    "redis-server",
    "rsyslog",
    "supervisor",
    "wrk",
    "zsh",
];

/// The units that packages start, which the tests only want the programs of.
const UNITS: [(&str, &str); 5] = [
    ("mariadb-server", "mariadb"),
    ("nginx", "nginx"),
    ("redis-server", "redis-server"),
    ("rsyslog", "rsyslog"),
    ("supervisor", "supervisor"),
];

/// What the benchmark in short counts instructions with, and compares fdtrace with.
pub(super) const QUICK_PEERS: [&str; 2] = ["libbpf-tools", "valgrind"];

/// What the whole of it compares fdtrace with. A release that lacks one of them has a table without it.
pub(super) const PEERS: [&str; 6] = [
    "bpftrace",
    "libbpf-tools",
    "lsof",
    "strace",
    "util-linux-extra",
    "valgrind",
];

/// Something a machine may lack.
#[derive(Debug)]
pub(super) enum Thing {
    /// A part of the Rust that runs this.
    Component(&'static str),
    /// A Rust that compiles for the kernel.
    Compiler,
    /// The linker that goes with it.
    BpfLinker,
    /// A package of the distribution's.
    Package(&'static str),
    /// A kernel for guests.
    Kernel(Kernel),
    /// A newer emulator than the release has by itself.
    Emulator,
    /// A newer Python than the release has.
    Python(Python),
}

impl Thing {
    /// Is it an error if it cannot be had?
    pub(super) const fn is_needed(&self) -> bool {
        !matches!(self, Self::Emulator | Self::Python(_))
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component(name) => write!(formatter, "{name} (installed by rustup)"),
            Self::Compiler => formatter.write_str(
                "a Rust that compiles for the kernel (the distribution's by apt, else a nightly \
                 by rustup)",
            ),
            Self::BpfLinker => {
                write!(
                    formatter,
                    "bpf-linker {} (installed by cargo)",
                    bpf_linker::VERSION
                )
            }
            Self::Package(name) => write!(formatter, "{name} (installed by apt)"),
            Self::Kernel(kernel) => write!(
                formatter,
                "kernel {kernel} (Debian {}'s, unpacked into {})",
                kernel.suite(),
                kernel.folder().unwrap_or_default().display()
            ),
            Self::Emulator => write!(
                formatter,
                "a QEMU whose threads a changing kernel can bear ({}'s, unpacked into {})",
                emulator::BACKPORTS.1,
                emulator::folder().unwrap_or_default().display()
            ),
            Self::Python(python) => write!(
                formatter,
                "{python} (Debian {}'s, unpacked into {})",
                pythons::SUITE,
                python.root().unwrap_or_default().display()
            ),
        }
    }
}

/// rustfmt and clippy, where the minimal profile has left them out.
pub(super) fn components() -> Vec<Thing> {
    // Cargo names itself to what it runs, and its parts lie beside it.
    let Some(cargo) = env::var_os("CARGO").map(PathBuf::from) else {
        return Vec::new();
    };
    let parts = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];
    let absent = parts
        .into_iter()
        .filter(|(_, part)| !cargo.with_file_name(part).exists());
    absent.map(|(name, _)| Thing::Component(name)).collect()
}

/// What is to be installed.
pub(super) struct Plan<'a> {
    things: &'a [Thing],
    packages: Vec<String>,
}

impl<'a> Plan<'a> {
    /// What these things need. Fetches the lists of packages, where some are among them.
    pub(super) fn of(things: &'a [Thing]) -> Result<Self> {
        let mut packages = Vec::new();
        for thing in things {
            match thing {
                Thing::Package(name) => packages.push((*name).to_owned()),
                Thing::BpfLinker => packages.extend(bpf_linker::packages()),
                _ => {}
            }
        }
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        let mut names = apt::not_installed(&names)?;
        let needs_compiler = needs_compiler(things);
        if needs_compiler || !names.is_empty() {
            apt::update()?;
        }
        if needs_compiler {
            names.extend(compiler::packages()?);
        }
        Ok(Self {
            things,
            packages: names.into_iter().map(str::to_owned).collect(),
        })
    }

    /// Installs it all, those that others need first.
    pub(super) fn carry_out(&self) -> Result<()> {
        for thing in self.things {
            if let Thing::Component(name) = thing {
                command::run(Command::new("rustup").args(["component", "add", name]))?;
            }
        }
        let names = self.names();
        apt::install(&names)?;
        for (package, unit) in UNITS {
            if names.contains(&package) {
                stop(unit)?;
            }
        }
        if needs_compiler(self.things) {
            compiler::install_nightly_if_still_needed()?;
        }
        for thing in self.things {
            match thing {
                Thing::BpfLinker => bpf_linker::install()?,
                Thing::Kernel(kernel) => archive::fetch(*kernel)?,
                Thing::Emulator => fetch_emulator(),
                Thing::Python(python) => fetch_python(*python),
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.packages.iter().map(String::as_str).collect()
    }
}

/// What is installed by whom, a line each, with what it takes as far as that is known before.
impl fmt::Display for Plan<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        if !names.is_empty() {
            let size = apt::size(&names).unwrap_or_else(|| "apt does not say how much".to_owned());
            writeln!(formatter, "  {}", command::text(&apt::installs(&names)))?;
            writeln!(formatter, "      {size}")?;
        }
        if needs_compiler(self.things) && !compiler::is_any(&names) {
            writeln!(
                formatter,
                "  rustup: a nightly with its sources, some hundred megabytes"
            )?;
        }
        for thing in self.things {
            match thing {
                Thing::Component(_) => writeln!(formatter, "  {thing}"),
                Thing::BpfLinker => writeln!(formatter, "  {thing}: compiled for some minutes"),
                Thing::Kernel(_) => writeln!(formatter, "  {thing}: some 15 MB"),
                Thing::Emulator => writeln!(formatter, "  {thing}: some 80 MB"),
                Thing::Python(_) => writeln!(formatter, "  {thing}: some 60 MB"),
                Thing::Compiler | Thing::Package(_) => Ok(()),
            }?;
        }
        Ok(())
    }
}

fn needs_compiler(things: &[Thing]) -> bool {
    things.iter().any(|thing| matches!(thing, Thing::Compiler))
}

/// Guests run without it as well, each in one thread, which is said when one starts.
fn fetch_emulator() {
    if let Err(error) = archive::fetch_emulator() {
        eprintln!(
            "xtask: no newer QEMU from {}: {error:#}",
            emulator::BACKPORTS.1
        );
    }
}

/// The tests of those that are there run; what is missing is said.
fn fetch_python(python: Python) {
    if let Err(error) = archive::fetch_python(python) {
        eprintln!("xtask: no {python} from {}: {error:#}", pythons::SUITE);
    }
}

/// Ends what its package has just started.
fn stop(unit: &str) -> Result<()> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    command::run(Command::new("systemctl").args(["--quiet", "disable", "--now", unit]))
}
