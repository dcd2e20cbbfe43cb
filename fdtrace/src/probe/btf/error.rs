//! Why a question to the BTF has no answer.

use std::{io, path::PathBuf};

use thiserror::Error;

/// What went wrong with a BTF, or with a question to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel exports no BTF of its own.
    #[error(
        "{} does not exist: this kernel was built without CONFIG_DEBUG_INFO_BTF (or /sys is not \
         mounted); give the BTF of exactly this kernel with --btf FILE",
        path.display()
    )]
    NotExported {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read BTF from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An ELF file without a readable `.BTF` section.
    #[error(
        "{}: {problem}; give the raw BTF, or a 64-bit vmlinux built with CONFIG_DEBUG_INFO_BTF",
        path.display()
    )]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More bytes than any kernel's BTF has.
    #[error("this is no kernel's BTF: it is larger than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: u64,
    },
    /// The first two bytes are not BTF's magic.
    #[error("this is not BTF: it starts with {found:#06x}, BTF with 0xeb9f")]
    NotBtf {
        /// The first two bytes, in this machine's byte order.
        found: u16,
    },
    /// BTF of a machine with the other byte order.
    #[error("this BTF has the other byte order: it belongs to a kernel of another architecture")]
    ForeignByteOrder,
    /// A version or flags that no kernel up to 7.2 writes.
    #[error(
        "this is BTF version {version} with flags {flags:#x}; fdtrace reads version 1 without flags"
    )]
    Version {
        /// `btf_header.version`.
        version: u8,
        /// `btf_header.flags`.
        flags: u8,
    },
    /// A kind of type whose size is unknown, so nothing behind it can be found.
    #[error(
        "type {id} of the BTF is of kind {kind}, which fdtrace does not know: use a newer fdtrace, \
         or give this kernel's BTF as an older pahole writes it with --btf FILE"
    )]
    UnknownKind {
        /// The type's number.
        id: u32,
        /// Its `BTF_KIND_*`.
        kind: u8,
    },
    /// The BTF contradicts itself.
    #[error("the BTF is damaged: {problem} (type {id})")]
    Damaged {
        /// The type where it showed, 0 for the header.
        id: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// No struct or union of that name.
    #[error("this kernel's BTF has no struct or union `{name}`")]
    NoStructure {
        /// The name looked for.
        name: String,
    },
    /// A struct without such a member: ordinary, fields come and go between kernels.
    #[error("`{structure}.{path}`: this kernel has no member `{step}` there")]
    NoField {
        /// Where the path starts.
        structure: String,
        /// The whole path.
        path: String,
        /// The part of it that is missing.
        step: String,
    },
    /// The path leads to, or through, something without a byte offset in the structure.
    #[error("`{structure}.{path}`: at `{step}`, {problem}")]
    Unreachable {
        /// Where the path starts.
        structure: String,
        /// The whole path.
        path: String,
        /// The part of it that cannot be taken.
        step: String,
        /// Why not.
        problem: Obstacle,
    },
    /// A path that is not `member`, `.member` and `[index]` in a row.
    #[error("`{path}` is not a member path like `signal.rlim[7].rlim_cur`")]
    Path {
        /// The path as given.
        path: String,
    },
}

impl BtfError {
    /// Whether this says "this kernel does not have it", as opposed to "it cannot be told".
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NoStructure { .. } | Self::NoField { .. })
    }
}

/// What stands in the way of a member path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// The value is somewhere else in memory, at no offset of this structure.
    #[error(
        "the path would follow a pointer; resolve the pointer and what it points to separately"
    )]
    Pointer,
    /// Some bits of a byte: an offset and a size in bytes do not describe it.
    #[error("the member is a bitfield, which has no byte offset")]
    Bitfield,
    /// A member of something that has none.
    #[error("the type is no struct or union")]
    NotAStructure,
    /// An index into something that is no array.
    #[error("the type is no array")]
    NotAnArray,
    /// An index behind the last element.
    #[error("the array has only {0} elements")]
    Index(u32),
}
