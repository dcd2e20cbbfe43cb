//! bpf-linker, built against the distribution's LLVM.

use std::process::Command;

use anyhow::Result;

use super::thing::Thing;
use crate::{
    command,
    ebpf::toolchain::{self, LLVM, OBJECT_VARIABLE},
    workspace,
};

/// The oldest that is good enough, and the one that gets installed.
pub(super) const VERSION: &str = "0.13.0";

pub(super) fn missing() -> Option<Thing> {
    let prebuilt = std::env::var_os(OBJECT_VARIABLE).is_some();
    (!prebuilt && !is_installed()).then_some(Thing::BpfLinker)
}

fn is_installed() -> bool {
    let Some(linker) = toolchain::linker() else {
        return false;
    };
    let said = command::output(Command::new(linker).arg("--version")).unwrap_or_default();
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    numbers(version) >= numbers(VERSION)
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect()
}

/// What it is built against.
pub(super) fn packages() -> [String; 2] {
    [format!("llvm-{LLVM}-dev"), format!("libpolly-{LLVM}-dev")]
}

/// Compiles it with the Rust that runs this.
pub(super) fn install() -> Result<()> {
    eprintln!("xtask: building bpf-linker {VERSION} with LLVM {LLVM}, which takes a minute");
    let mut cargo = workspace::cargo();
    // Without the prefix it looks for the library in the folder of the last LLVM it finds.
    cargo.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    cargo.args([
        "install",
        "--quiet",
        "--locked",
        "--force",
        "bpf-linker",
        "--version",
        VERSION,
    ]);
    cargo.args([
        "--no-default-features",
        "--features",
        &format!("llvm-{LLVM}"),
    ]);
    cargo
        .arg("--target-dir")
        .arg(workspace::target().join("bpf-linker"));
    command::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("0.13.0") > numbers("0.9.15"));
        assert!(numbers("") < numbers("0.1"));
    }
}
