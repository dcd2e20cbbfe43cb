//! The binary layout of BTF: header, kinds, and how long each type's record is.
//!
//! Source: `include/uapi/linux/btf.h`. In Linux 7.2 the kind has seven bits (it had five) and the
//! vlen twenty-four (it had sixteen; commit f7a6b9eaff3e). The bits they took over were reserved
//! and zero before, so reading the wide form is right for every kernel. 7.2 also knows a layout
//! section, which tells the record size of kinds the reader has never heard of: the first will be
//! `BTF_KIND_LOC_PARAM`, `_LOC_PROTO` and `_LOCSEC` (20 to 22), which tell where inlined functions
//! are.

use std::ops::Range;

use super::error::BtfError;

/// `BTF_MAGIC`, in the byte order of the machine that wrote it.
pub(super) const MAGIC: u16 = 0xeb9f;
/// `struct btf_header` up to and including `str_len`; what follows is newer and optional.
const HEADER_LEN: usize = 24;
/// The same with `layout_off` and `layout_len`.
const HEADER_LEN_WITH_LAYOUT: usize = 32;
/// `struct btf_type`: `name_off`, `info`, `size` or `type`.
pub(super) const RECORD_LEN: usize = 12;

/// The `u32` at byte `at`, if there are four bytes.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

/// One element of `struct btf_array`, `btf_member`, …: `N` words.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| word(bytes, i * 4).unwrap_or(0))
}

/// `BTF_KIND_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Kind 0, and type id 0: `void`.
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A newer kind, whose record the BTF's layout section measures.
    Newer,
}

/// Kinds by number; what is past the end is newer than this file.
const KINDS: [Kind; 20] = [
    Kind::Void,
    Kind::Int,
    Kind::Ptr,
    Kind::Array,
    Kind::Struct,
    Kind::Union,
    Kind::Enum,
    Kind::Fwd,
    Kind::Typedef,
    Kind::Volatile,
    Kind::Const,
    Kind::Restrict,
    Kind::Func,
    Kind::FuncProto,
    Kind::Var,
    Kind::DataSec,
    Kind::Float,
    Kind::DeclTag,
    Kind::TypeTag,
    Kind::Enum64,
];

impl Kind {
    /// Bytes behind `struct btf_type`: a fixed part, and a part per element of vlen.
    ///
    /// `None` for kinds that only a layout section can measure, and for kind 0, which no record
    /// has.
    fn tail_len(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::Int | Self::Var | Self::DeclTag => (4, 0),
            Self::Array => (12, 0),
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => (0, 12),
            Self::Enum | Self::FuncProto => (0, 8),
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => (0, 0),
            Self::Void | Self::Newer => return None,
        })
    }
}

/// `btf_type.info`, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info {
    /// The number as it stands there, for error messages.
    pub(super) number: u8,
    pub(super) kind: Kind,
    pub(super) flag: bool,
    vlen: usize,
}

impl Info {
    pub(super) fn new(info: u32) -> Self {
        let [top, ..] = info.to_be_bytes();
        let number = top & 0x7f;
        Self {
            number,
            kind: KINDS
                .get(usize::from(number))
                .copied()
                .unwrap_or(Kind::Newer),
            flag: top & 0x80 != 0,
            vlen: (info & 0x00ff_ffff) as usize,
        }
    }
}

/// Where the sections of a BTF are, as ranges of its bytes. All of them are in bounds.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    pub(super) types: Range<usize>,
    /// Not empty, and its last byte is NUL, so every string in it ends.
    pub(super) strings: Range<usize>,
    /// Empty where the BTF has none.
    layout: Range<usize>,
}

impl Sections {
    /// Checks the header and the bounds of the sections.
    pub(super) fn find(bytes: &[u8]) -> Result<Self, BtfError> {
        let damaged = |problem| BtfError::Damaged { id: 0, problem };
        let Some(&[magic0, magic1, version, flags]) = bytes.first_chunk() else {
            return Err(damaged("it ends inside the header"));
        };
        let magic = u16::from_ne_bytes([magic0, magic1]);
        if magic == MAGIC.swap_bytes() {
            return Err(BtfError::ForeignByteOrder);
        }
        if magic != MAGIC {
            return Err(BtfError::NotBtf { found: magic });
        }
        if version != 1 || flags != 0 {
            return Err(BtfError::Version { version, flags });
        }
        let header_len = word(bytes, 4).map_or(0, |len| len as usize);
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return Err(damaged("its header has an impossible length"));
        }
        // Offsets in the header count from its end; both words may be anything up to u32::MAX.
        let section = |at: usize| {
            let start = header_len.checked_add(word(bytes, at)? as usize)?;
            let end = start.checked_add(word(bytes, at + 4)? as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let types = section(8).ok_or(damaged("its types lie outside the file"))?;
        let strings = section(16).ok_or(damaged("its strings lie outside the file"))?;
        if !bytes[strings.clone()].ends_with(&[0]) {
            return Err(damaged("its last string has no end"));
        }
        let layout = if header_len >= HEADER_LEN_WITH_LAYOUT {
            section(24).ok_or(damaged("its layout lies outside the file"))?
        } else {
            0..0
        };
        Ok(Self {
            types,
            strings,
            layout,
        })
    }

    /// Length of one type's whole record; `None` for a kind nobody has measured.
    pub(super) fn record_len(&self, bytes: &[u8], info: Info) -> Option<usize> {
        let (once, each) = info.kind.tail_len().or_else(|| {
            // `struct btf_layout { u8 info_sz; u8 elem_sz; u16 flags; }`, indexed by kind.
            if info.kind != Kind::Newer {
                return None;
            }
            let layout = bytes.get(self.layout.clone())?;
            let &[once, each, _, _] = layout.get(usize::from(info.number) * 4..)?.first_chunk()?;
            Some((usize::from(once), usize::from(each)))
        })?;
        // At most 12 + 255 + 255 * 2^24, which fits 32 bits too.
        Some(RECORD_LEN + once + each * info.vlen)
    }
}
