//! Takes the debug information out of an object. Shared by the build script and `cargo xtask ebpf`.

use object::{
    build::elf::{Builder, SectionData},
    elf,
};

/// The object without DWARF. `.BTF` and `.BTF.ext` stay: the kernel and aya read them.
pub(crate) fn debug_sections(object: &[u8]) -> Result<Vec<u8>, String> {
    let mut builder = Builder::read(object).map_err(|error| unreadable(&error))?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        let name = name.strip_prefix(b".rel").unwrap_or(name);
        section.delete = name.starts_with(b".debug_");
    }
    // Symbols that stand for a deleted section go with it.
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table, the writer wants two.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .map_err(|error| format!("cannot write the object: {error}"))?;
    Ok(stripped)
}

fn unreadable(error: &object::build::Error) -> String {
    format!("the object with the kernel programs is not a whole ELF file: {error}")
}
