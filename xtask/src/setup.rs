//! What the other tasks need on the machine: looked for, and installed where it is missing.

mod apt;
mod archive;
mod bpf_linker;
mod compiler;
mod thing;

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::archive::{KEYRING, mirror};
use self::thing::{Plan, Thing};
use crate::{dist, ebpf::toolchain, emulator, kernel::Kernel, pythons::Python};

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

/// May something be installed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// No: what is missing is an error.
    Withheld,
    /// Yes.
    Given,
    /// Whoever sits at the terminal is asked, and told how much it is.
    Asked,
}

/// Installs what is missing, if that is wanted.
pub(crate) fn ensure(scope: Scope<'_>, consent: Consent) -> Result<()> {
    let missing = missing(scope)?;
    if missing.is_empty() {
        return Ok(());
    }
    for thing in &missing {
        eprintln!("xtask: missing: {thing}");
    }
    let is_needed = missing.iter().any(Thing::is_needed);
    if consent == Consent::Withheld && is_needed {
        bail!("--offline was given, so nothing is installed; `cargo xtask setup` would do it");
    }
    if consent != Consent::Withheld {
        let plan = Plan::of(&missing)?;
        if consent == Consent::Given || is_agreed(&plan, is_needed)? {
            plan.carry_out()?;
        } else if is_needed {
            bail!("nothing was installed");
        }
    }
    let still_missing = self::missing(scope)?;
    if let Some(thing) = still_missing.iter().find(|thing| thing.is_needed()) {
        bail!("{thing} is still missing although its installation reported no error");
    }
    Ok(())
}

/// Says what would be installed, and asks; where nobody can be asked, what can be done without is left out.
fn is_agreed(plan: &Plan<'_>, is_needed: bool) -> Result<bool> {
    eprint!("xtask: to be installed:\n{plan}");
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        if is_needed {
            bail!("nothing was installed: there is no terminal to ask at; with --yes it is");
        }
        return Ok(false);
    }
    eprint!("Install it? [y/N] ");
    io::stderr().flush().context("cannot ask")?;
    is_yes(&mut stdin.lock())
}

fn is_yes(input: &mut impl BufRead) -> Result<bool> {
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The task itself: everything, with a word on what is there.
pub(crate) fn run(consent: Consent) -> Result<()> {
    ensure(Scope::Everything, consent)?;
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
    if tests {
        let pythons = Python::ALL.into_iter().filter(|python| !python.is_there());
        missing.extend(pythons.map(Thing::Python));
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            (" Yes\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yesterday\n", false),
        ] {
            let outcome = is_yes(&mut answer.as_bytes()).unwrap();
            assert_eq!(outcome, expected, "{answer:?}");
        }
    }
}
