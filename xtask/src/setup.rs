//! What the other tasks need on the machine: looked for, and installed where it is missing.

mod apt;
mod archive;
mod bpf_linker;
mod compiler;
mod thing;

use anyhow::{Result, bail};

pub(crate) use self::archive::{KEYRING, mirror};
use self::thing::Thing;
use crate::{dist, ebpf::toolchain, emulator, kernel::Kernel};

/// How much of it a task needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// What compiles fdtrace.
    Build,
    /// That, and what boots these kernels.
    Machines(&'a [Kernel]),
    /// That, and what fdtrace is measured against.
    Measured(&'a [Kernel]),
    /// What compiles fdtrace, and what its packages are checked with.
    Packaged,
    /// What boots all kernels, and what only tests use.
    Everything,
}

/// Installs what is missing. With `offline`, only says what that would be, and fails.
pub(crate) fn ensure(scope: Scope<'_>, offline: bool) -> Result<()> {
    let missing = missing(scope)?;
    if missing.is_empty() {
        return Ok(());
    }
    for thing in &missing {
        eprintln!("xtask: missing: {thing}");
    }
    if offline && missing.iter().any(Thing::is_needed) {
        bail!("--offline was given, so nothing is installed; `cargo xtask setup` would do it");
    }
    if !offline {
        thing::install(&missing)?;
    }
    let still_missing = self::missing(scope)?;
    if let Some(thing) = still_missing.iter().find(|thing| thing.is_needed()) {
        bail!("{thing} is still missing although its installation reported no error");
    }
    Ok(())
}

/// The task itself: everything, with a word on what is there.
pub(crate) fn run(offline: bool) -> Result<()> {
    ensure(Scope::Everything, offline)?;
    if let Ok(toolchain) = toolchain::find() {
        println!("kernel programs are compiled by {toolchain}");
    }
    for kernel in Kernel::ALL {
        let package = kernel
            .package()
            .unwrap_or_else(|| "of unknown origin".to_owned());
        println!("kernel {kernel:<4} is {package}");
    }
    println!("everything is there");
    Ok(())
}

fn missing(scope: Scope<'_>) -> Result<Vec<Thing>> {
    let (kernels, peers) = match scope {
        Scope::Build | Scope::Packaged => (&[][..], &[][..]),
        Scope::Machines(kernels) => (kernels, &[][..]),
        Scope::Measured(kernels) => (kernels, &thing::PEERS[..]),
        Scope::Everything => (&Kernel::ALL[..], &thing::QUICK_PEERS[..]),
    };
    let tests = matches!(scope, Scope::Everything);
    let mut missing = Vec::new();
    if tests {
        missing.extend(thing::components());
    }
    missing.extend(compiler::missing());
    missing.extend(bpf_linker::missing());
    let mut packages = Vec::new();
    if !kernels.is_empty() {
        packages.extend(thing::MACHINE_PACKAGES);
    }
    if tests {
        packages.extend(thing::TEST_PACKAGES);
    }
    if matches!(scope, Scope::Packaged) {
        packages.extend(dist::CHECK_PACKAGES);
    }
    // What this release does not have cannot be installed, and is said to be missing in the table.
    let peers = apt::known(&apt::not_installed(peers)?)?;
    let needed = apt::not_installed(&packages)?.into_iter().chain(peers);
    missing.extend(needed.map(Thing::Package));
    for kernel in kernels {
        if kernel.image()?.is_none() {
            missing.push(Thing::Kernel(*kernel));
        }
    }
    if !kernels.is_empty() && emulator::is_wanted() {
        missing.push(Thing::Emulator);
    }
    Ok(missing)
}
