//! How much of an ELF file there is to read, found out from its headers before anything else of it is read.
//!
//! Whoever may map a file can have it parsed by fdtrace, and a sparse file costs its owner nothing: sizes that no
//! program has are not read, and the file goes without names.

use std::{fs::File, os::unix::fs::FileExt};

use object::elf::{
    SHF_COMPRESSED, SHT_DYNSYM, SHT_NOBITS, SHT_STRTAB, SHT_SYMTAB, SHT_SYMTAB_SHNDX,
};

/// Sections of a file: its table of them is a quarter of a megabyte then.
const SECTIONS_MAX: u64 = 4_096;
/// Program headers.
const SEGMENTS_MAX: u16 = 4_096;
/// Bytes of symbols and of their names: some three million symbols.
const SYMBOLS_MAX: u64 = 128 << 20;
/// Bytes of what is packed, unpacked: it is held in memory.
const UNPACKED_MAX: u64 = 64 << 20;
/// Bytes of one section of unwind information: those of browsers have some 15 MB.
pub(super) const UNWIND_MAX: u64 = 32 << 20;
/// Bytes of one Go program's table of functions.
pub(super) const GO_MAX: u64 = 48 << 20;
/// Bytes of symbols whose files are held for names at the same time.
pub(super) const NAMED_MAX: u64 = 256 << 20;

/// Bytes of an ELF header, and of what it counts, for 64 bits (elf(5)).
const HEADER: usize = 64;
const SECTION: u64 = 64;

/// What reading a file's names would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of symbols, of their names, and of what has to be unpacked.
    pub(super) names: u64,
}

impl Sizes {
    /// Those of a file; `None` where it is none of 64 bits and little endian, or more than is ever read.
    pub(super) fn of(file: &File) -> Option<Self> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        if !header.starts_with(b"\x7fELF\x02\x01") || half(&header, 56)? > SEGMENTS_MAX {
            return None;
        }
        let (at, stated) = (word(&header, 40)?, u64::from(half(&header, 60)?));
        if at == 0 {
            return Some(Self::default());
        }
        let size = half(&header, 58)?;
        let count = match stated {
            // Then the first section's size says it.
            0 => word(&section(file, at)?, 32)?,
            stated => stated,
        };
        if u64::from(size) != SECTION || count > SECTIONS_MAX {
            return None;
        }
        let (mut symbols, mut unpacked) = (0_u64, 0_u64);
        for index in 0..count {
            let section = section(file, at.checked_add(index * SECTION)?)?;
            let kind = u32::from_le_bytes(*section.get(4..)?.first_chunk()?);
            let (flags, offset, size) =
                (word(&section, 8)?, word(&section, 24)?, word(&section, 32)?);
            match kind {
                SHT_NOBITS => {}
                SHT_SYMTAB | SHT_DYNSYM | SHT_STRTAB | SHT_SYMTAB_SHNDX => {
                    symbols = symbols.saturating_add(size);
                }
                _ if flags & u64::from(SHF_COMPRESSED) != 0 => {
                    // `Elf64_Chdr`: type, reserved, size.
                    let mut packed = [0; 16];
                    file.read_exact_at(&mut packed, offset).ok()?;
                    unpacked = unpacked.saturating_add(word(&packed, 8)?);
                }
                _ => {}
            }
        }
        (symbols <= SYMBOLS_MAX && unpacked <= UNPACKED_MAX).then_some(Self {
            names: symbols.saturating_add(unpacked),
        })
    }
}

fn section(file: &File, at: u64) -> Option<[u8; 64]> {
    let mut section = [0; 64];
    file.read_exact_at(&mut section, at).ok()?;
    Some(section)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use object::elf::SHT_PROGBITS;

    use super::*;

    /// A sparse file of that name with these sections: kind, flags, size.
    fn sparse(name: &str, stated: u16, sections: &[(u32, u32, u64)]) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("fdtrace-{name}-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        let mut header = [0_u8; HEADER];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[40..48].copy_from_slice(&64_u64.to_le_bytes());
        header[58..60].copy_from_slice(&64_u16.to_le_bytes());
        header[60..62].copy_from_slice(&stated.to_le_bytes());
        file.write_all_at(&header, 0).unwrap();
        let data = 64 + SECTION * (SECTIONS_MAX + 1);
        for (index, (kind, flags, size)) in sections.iter().enumerate() {
            let mut section = [0_u8; 64];
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[8..16].copy_from_slice(&u64::from(*flags).to_le_bytes());
            section[24..32].copy_from_slice(&data.to_le_bytes());
            section[32..40].copy_from_slice(&size.to_le_bytes());
            file.write_all_at(&section, 64 + 64 * index as u64).unwrap();
        }
        file.write_all_at(&(1_u64 << 40).to_le_bytes(), data + 8)
            .unwrap();
        file.set_len(1 << 31).unwrap();
        (path, file)
    }

    fn of(name: &str, stated: u16, sections: &[(u32, u32, u64)]) -> Option<u64> {
        let (path, file) = sparse(name, stated, sections);
        let sizes = Sizes::of(&file);
        fs::remove_file(path).unwrap();
        sizes.map(|sizes| sizes.names)
    }

    #[test]
    fn what_no_program_has_is_not_read() {
        let huge = 700 << 20;
        assert_eq!(
            of("plain", 1, &[(SHT_PROGBITS, 0, huge)]),
            Some(0),
            "mapped"
        );
        assert_eq!(of("symbols", 1, &[(SHT_SYMTAB, 0, 4_096)]), Some(4_096));
        let many = [(SHT_SYMTAB, 0, 100 << 20), (SHT_STRTAB, 0, 29 << 20)];
        assert_eq!(of("together", 2, &many), None);
        assert_eq!(of("symtab", 1, &[(SHT_SYMTAB, 0, huge)]), None);
        assert_eq!(of("packed", 1, &[(SHT_PROGBITS, SHF_COMPRESSED, 64)]), None);
        assert_eq!(of("nobits", 1, &[(SHT_NOBITS, 0, huge)]), Some(0));
    }

    #[test]
    fn a_table_of_sections_is_bounded_however_it_is_counted() {
        assert_eq!(of("stated", 5_000, &[]), None);
        assert_eq!(of("first", 0, &[(0, 0, 11_000_000)]), None);
        assert_eq!(of("few", 0, &[(0, 0, 1)]), Some(0));
    }

    #[test]
    fn files_of_this_machine_can_be_read() {
        let own = File::open("/proc/self/exe").unwrap();
        assert!(Sizes::of(&own).is_some_and(|sizes| sizes.names > 0));
        for other in ["/etc/passwd", "/dev/null", "/proc/self/maps"] {
            assert_eq!(Sizes::of(&File::open(other).unwrap()), None, "{other}");
        }
    }
}
