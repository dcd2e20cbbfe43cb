//! The kernel programs: built by the same code as in fdtrace's build script, and measured.

#[path = "../../fdtrace/build/compile.rs"]
mod compile;
#[path = "../../fdtrace/build/reproducible.rs"]
pub(crate) mod reproducible;
#[path = "../../fdtrace/build/strip.rs"]
mod strip;
#[path = "../../fdtrace/build/toolchain.rs"]
pub(crate) mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

use crate::workspace;

/// One instruction; a few take two of them.
const INSTRUCTION: u64 = 8;

/// Builds the objects, and prints where they are and what they weigh.
pub(crate) fn report() -> Result<()> {
    let toolchain = toolchain::find().map_err(|message| anyhow!(message))?;
    println!("compiled by {toolchain}");
    let folder = workspace::target().join("ebpf");
    let objects = compile::objects(&toolchain, workspace::root(), &folder);
    let objects = objects.map_err(|message| anyhow!(message))?;
    for (whole, name) in objects.iter().zip(compile::OBJECTS) {
        let path = folder.join(format!("{name}.o"));
        weigh(whole, &path)?;
    }
    Ok(())
}

/// Where fdtrace's build script has left the objects.
pub(crate) fn objects() -> PathBuf {
    let folder = workspace::target().join("ebpf");
    folder.join(toolchain::TARGET).join("release")
}

fn weigh(whole: &[u8], path: &Path) -> Result<()> {
    let stripped = strip::debug_sections(whole).map_err(|message| anyhow!(message))?;
    fs::write(path, &stripped).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\n{}", path.display());
    println!(
        "{} bytes, {} before debug information was taken out",
        stripped.len(),
        whole.len()
    );
    println!("\n{:>12}  {:<32}  section", "instructions", "program");
    for (section, name, size) in functions(&stripped)? {
        println!("{:>12}  {name:<32}  {section}", size / INSTRUCTION);
    }
    Ok(())
}

/// The functions with their sections and sizes, the shared ones of `.text` last.
fn functions(object: &[u8]) -> Result<Vec<(String, String, u64)>> {
    let file = object::File::parse(object).context("the stripped object is no ELF file")?;
    let mut functions = Vec::new();
    for section in file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
    {
        let here = |symbol: &object::Symbol<'_, '_>| {
            symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
        };
        for symbol in file.symbols().filter(here) {
            let section = section.name()?.to_owned();
            functions.push((section, symbol.name()?.to_owned(), symbol.size()));
        }
    }
    functions.sort_by_key(|(section, name, _)| (section == ".text", section.clone(), name.clone()));
    Ok(functions)
}
