//! Where an ELF file has what an interpreter says of itself.

use std::fs::File;

use object::{
    elf::{SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, Sym64},
    endian::Endianness,
    read::elf::{FileHeader, SectionHeader, Sym},
};

use super::super::{
    elf::{Header, cache},
    imports,
};

/// Addresses in the file's own terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    /// The type of code objects.
    pub(super) code_type: u64,
    /// From 3.11 on: the version (`PY_VERSION_HEX`).
    pub(super) version: Option<u64>,
    /// The interpreter's state, which begins with `_Py_DebugOffsets` from 3.13 on.
    pub(super) runtime: Option<u64>,
    /// `None`.
    pub(super) none: Option<u64>,
}

impl Symbols {
    /// Those of a file; `None` where it is no interpreter, or has its symbols hidden.
    pub(crate) fn read(file: &File) -> Option<Self> {
        let cache = cache(file)?;
        let data = imports::Symbols(&cache);
        let header = Header::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, data).ok()?;
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            let mut tables = sections.iter();
            let Some(table) = tables.find(|section| section.sh_type(endian) == kind) else {
                continue;
            };
            let symbols: &[Sym64<Endianness>] = table.data_as_array(endian, data).ok()?;
            let strings = sections.section(table.link(endian)).ok()?;
            let strings = strings.data(endian, data).ok()?;
            let (mut found, mut code_type) = (Self::default(), None);
            for symbol in symbols {
                if symbol.st_shndx(endian) == SHN_UNDEF {
                    continue;
                }
                let value = Some(symbol.st_value(endian));
                match imports::name(strings, symbol.st_name(endian)) {
                    Some(b"PyCode_Type") => code_type = value,
                    Some(b"Py_Version") => found.version = value,
                    Some(b"_PyRuntime") => found.runtime = value,
                    Some(b"_Py_NoneStruct") => found.none = value,
                    _ => {}
                }
            }
            if let Some(code_type) = code_type {
                return Some(Self { code_type, ..found });
            }
        }
        None
    }

    /// Where they are in a process.
    pub(crate) fn moved(self, bias: u64) -> Self {
        let moved = |address: u64| address.wrapping_add(bias);
        Self {
            code_type: moved(self.code_type),
            version: self.version.map(moved),
            runtime: self.runtime.map(moved),
            none: self.none.map(moved),
        }
    }
}
