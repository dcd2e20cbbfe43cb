//! Where this kernel keeps what fdtrace reads: offsets, prototypes and enumerators from its BTF.
//!
//! BTF is the kernel's own description of its types (`Documentation/bpf/btf.rst`). Offsets of the
//! same field differ between kernels by version, configuration and compiler; they are resolved
//! here once and handed to the eBPF programs as constants. A resolved absence is an answer too:
//! [`Btf::field_any`] tries the names a field has had.
//!
//! Any file may be given as BTF, so nothing in it is believed: lengths, numbers and nesting are
//! checked, and every question ends after at most one walk over the table.
//!
//! `format` has the bytes, `table` the types by number and name, `field` and `function` the
//! questions, `file` the sources; `only` writes one.

mod error;
mod field;
mod file;
mod format;
mod function;
mod only;
mod path;
mod table;
#[cfg(test)]
mod tests;

use self::table::{Table, Type};
pub use self::{
    error::{BtfError, Obstacle},
    function::{Function, Parameter},
    only::only,
};

/// One kernel's BTF: header checked, types indexed by number and name.
#[derive(Debug)]
pub struct Btf {
    table: Table,
}

/// Where a field is in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the structure.
    pub offset: u32,
    /// Bytes the field takes; 0 for a flexible array.
    pub size: u32,
}

impl Btf {
    /// Reads raw BTF in this machine's byte order.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self {
            table: Table::new(bytes)?,
        })
    }

    /// How many types it describes.
    #[must_use]
    pub fn types(&self) -> usize {
        self.table.len()
    }

    fn get(&self, id: u32, from: u32) -> Result<Type<'_>, BtfError> {
        self.table.get(id, from)
    }
}
