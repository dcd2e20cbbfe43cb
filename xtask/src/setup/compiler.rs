//! A Rust that compiles for the kernel.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{apt, thing::Thing};
use crate::{
    command,
    ebpf::toolchain::{self, NIGHTLIES, OBJECT_VARIABLE},
};

/// Debian's, first as the releases carry it for their browser, which is newer, then the plain one.
const PACKAGES: [[&str; 3]; 2] = [
    ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
    ["rustc", "cargo", "libstd-rust-dev-bpf"],
];

/// aya-ebpf needs this Rust.
const OLDEST: (u32, u32) = (1, 87);

pub(super) fn missing() -> Option<Thing> {
    let prebuilt = std::env::var_os(OBJECT_VARIABLE).is_some();
    (!prebuilt && toolchain::compiler().is_none()).then_some(Thing::Compiler)
}

/// The distribution's packages, or none where it has no Rust that will do.
pub(super) fn packages() -> Result<Vec<&'static str>> {
    for packages in PACKAGES {
        let candidates = apt::candidates(&packages)?;
        let rustc = candidates.first().and_then(|version| release(version));
        if candidates.len() == packages.len() && rustc.is_some_and(|release| release >= OLDEST) {
            return Ok(packages.to_vec());
        }
    }
    Ok(Vec::new())
}

/// Is one of these packages the compiler?
pub(super) fn is_any(names: &[&str]) -> bool {
    PACKAGES.iter().flatten().any(|name| names.contains(name))
}

/// The last resort, a download of some hundred megabytes.
pub(super) fn install_nightly_if_still_needed() -> Result<()> {
    if toolchain::compiler().is_some() {
        return Ok(());
    }
    let [_, nightly] = NIGHTLIES;
    eprintln!("xtask: the distribution has no Rust for the kernel, installing {nightly}");
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", nightly, "--profile", "minimal"]);
    command::run(rustup.args(["--component", "rust-src"])).with_context(|| {
        format!("no Rust that compiles for the kernel can be had here: set {OBJECT_VARIABLE} to a folder with the objects, built elsewhere")
    })
}

/// The first two numbers of a package's version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_of_a_package() {
        assert_eq!(release("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert_eq!(release("(none)"), None);
        assert!(release("1.85.0+dfsg3-1") < Some(OLDEST));
    }
}
