//! Where BTF comes from: sysfs, a raw file, the `.BTF` section of an ELF file.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{Btf, error::BtfError};

/// Where the kernel shows the BTF it runs with.
const SYS_FS: &str = "/sys/kernel/btf/vmlinux";
/// Ten times what distribution kernels have (3 to 6 MB), and little enough to hold in memory.
const LIMIT: u64 = 64 << 20;

impl Btf {
    /// The BTF of the running kernel.
    pub fn from_sys_fs() -> Result<Self, BtfError> {
        Self::from_file(Path::new(SYS_FS)).map_err(|error| match error {
            BtfError::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                BtfError::NotExported { path }
            }
            other => other,
        })
    }

    /// The BTF in a file: raw, or the `.BTF` section of a 64-bit ELF file such as vmlinux.
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let read = |source| BtfError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(read)?;
        // sysfs gives a size, a pipe does not: it only saves growing the buffer.
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(LIMIT)).unwrap_or(0));
        (&mut file).take(4).read_to_end(&mut bytes).map_err(read)?;
        if bytes == *b"\x7fELF" {
            bytes = elf_section(&file).map_err(|error| match error {
                ElfError::Read(source) => read(source),
                ElfError::Problem(problem) => BtfError::Elf {
                    path: path.to_owned(),
                    problem,
                },
            })?;
        } else {
            file.take(LIMIT - 3).read_to_end(&mut bytes).map_err(read)?;
        }
        if bytes.len() as u64 > LIMIT {
            return Err(BtfError::TooLarge { limit: LIMIT });
        }
        Self::parse(bytes)
    }
}

enum ElfError {
    Read(io::Error),
    Problem(&'static str),
}

/// The bytes of the section `.BTF`. Only the tables on the way are read: a vmlinux with debug
/// information is a gigabyte.
fn elf_section(file: &File) -> Result<Vec<u8>, ElfError> {
    // ELF-64 object file format, figures 2 and 7: 64-byte file header, 64-byte section headers.
    let header: [u8; 64] = read_at(file, 0)?;
    let native = if cfg!(target_endian = "little") { 1 } else { 2 };
    if header[4] != 2 {
        return Err(ElfError::Problem("it is not a 64-bit ELF file"));
    }
    if header[5] != native {
        return Err(ElfError::Problem(
            "it is an ELF file of the other byte order",
        ));
    }
    let (table, entry_len, entries) = (quad(&header, 40), half(&header, 58), half(&header, 60));
    if entry_len != 64 {
        return Err(ElfError::Problem(
            "it is an ELF file without a section table",
        ));
    }
    let section = |index: u16| read_at::<64>(file, table.saturating_add(u64::from(index) * 64));
    let names = quad(&section(half(&header, 62))?, 24);
    for index in 0..entries {
        let section = section(index)?;
        let name_at = names.saturating_add(quad(&section, 0) & 0xffff_ffff);
        // A name at the very end of the file may be too short to be this one.
        if !read_at::<5>(file, name_at).is_ok_and(|name| name == *b".BTF\0") {
            continue;
        }
        let (offset, len) = (quad(&section, 24), quad(&section, 32));
        if len > LIMIT {
            return Err(ElfError::Problem(
                "its .BTF section is larger than any kernel's",
            ));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset)
            .map_err(ElfError::Read)?;
        return Ok(bytes);
    }
    Err(ElfError::Problem(
        "it is an ELF file without a .BTF section",
    ))
}

fn read_at<const N: usize>(file: &File, offset: u64) -> Result<[u8; N], ElfError> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset)
        .map_err(ElfError::Read)?;
    Ok(bytes)
}

fn half(bytes: &[u8; 64], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn quad(bytes: &[u8; 64], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]))
}
