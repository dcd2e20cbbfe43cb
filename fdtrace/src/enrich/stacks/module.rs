//! An ELF file that processes have mapped, held open for as long as anything refers to it.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use flate2::read::ZlibDecoder;
use log::debug;
use object::{
    CompressedData, CompressionFormat, Object, ObjectSection, ReadCache,
    elf::{PF_X, PT_LOAD},
    read::elf::{ElfFile, FileHeader, ProgramHeader},
};
use rustc_hash::FxHashMap;

use super::{
    go::Functions,
    sizes::{GO_MAX, Sizes, UNWIND_MAX},
};
use crate::enrich::regular::{Key, Regular};

/// Files that are held at most, an fd each.
const MAX: usize = 1_024;
/// Bytes of unwind information that are held, all files together.
const UNWIND_ALL_MAX: u64 = 64 << 20;

/// A section with its place in the file's own addresses.
#[derive(Clone)]
pub(super) struct Section {
    pub(super) addresses: Range<u64>,
    pub(super) bytes: Arc<[u8]>,
}

/// One file.
pub(super) struct Module {
    /// Which of all that there were.
    pub(super) id: u32,
    /// What it is read from.
    pub(super) file: File,
    /// What its names take.
    pub(super) sizes: Sizes,
    /// As the first process called it that had it mapped. Untrusted.
    pub(super) path: Rc<str>,
    /// Its segments of code: place in the file, and the address that it wants to be at.
    segments: Vec<(Range<u64>, u64)>,
    pub(super) eh_frame: Option<Section>,
    pub(super) eh_frame_hdr: Option<Section>,
    /// What Go has in place of the others.
    pub(super) debug_frame: Option<Section>,
}

impl Module {
    /// The names of a Go program's functions, which stripping leaves.
    pub(super) fn go_functions(&self) -> Option<Functions> {
        Functions::new(go_table(&self.file)?)
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        [&self.eh_frame, &self.eh_frame_hdr, &self.debug_frame]
            .into_iter()
            .flatten()
    }

    /// What to add to the file's addresses, given that what is at `offset` in it has been mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        // Mappings begin at pages, segments anywhere in one.
        let is_in = |range: &Range<u64>| range.start & !0xfff <= offset && offset < range.end;
        let mut segments = self.segments.iter();
        let (range, address) = segments.find(|(range, _)| is_in(range))?;
        let wanted = address.wrapping_sub(range.start).wrapping_add(offset);
        Some(start.wrapping_sub(wanted))
    }
}

impl Module {
    /// What to add to the file's addresses, given where its code ends in memory (`end_code` of `load_elf_binary`
    /// in `fs/binfmt_elf.c`): the largest address behind a segment of code.
    pub(super) fn bias_by_end(&self, end_code: u64) -> Option<u64> {
        let ends = self.code().map(|code| code.end);
        let bias = end_code.wrapping_sub(ends.max()?);
        // Programs are moved by whole pages. Anything else is another file's.
        (end_code != 0 && bias.trailing_zeros() >= 12).then_some(bias)
    }

    /// The file's addresses of its code.
    pub(super) fn code(&self) -> impl Iterator<Item = Range<u64>> {
        let segments = self.segments.iter();
        segments.map(|(range, address)| {
            let size = range.end.saturating_sub(range.start);
            *address..address.saturating_add(size)
        })
    }
}

/// All files that are held.
#[derive(Default)]
pub(super) struct Modules {
    by_key: FxHashMap<Key, Rc<Module>>,
    made: u32,
}

impl Modules {
    /// The file that can be opened there, if it is an ELF file of this machine's, and the one with this
    /// inode number.
    pub(super) fn open(&mut self, at: &Path, name: &str, inode: Option<u64>) -> Option<Rc<Module>> {
        self.try_open(at, name, inode).unwrap_or_else(|error| {
            debug!("{}: {error}", at.display());
            None
        })
    }

    fn try_open(
        &mut self,
        at: &Path,
        name: &str,
        inode: Option<u64>,
    ) -> io::Result<Option<Rc<Module>>> {
        let found = Regular::find(at)?;
        let key = found.key;
        if inode.is_some_and(|inode| inode != key.inode) {
            return Ok(None);
        }
        if let Some(module) = self.by_key.get(&key) {
            return Ok(Some(Rc::clone(module)));
        }
        if self.by_key.len() >= MAX {
            self.by_key.retain(|_, module| Rc::strong_count(module) > 1);
            if self.by_key.len() >= MAX {
                return Ok(None);
            }
        }
        self.made += 1;
        let module = read(found.open()?, name, self.made, self.room()).map(Rc::new);
        if let Some(module) = &module {
            self.by_key.insert(key, Rc::clone(module));
        }
        Ok(module)
    }
}

impl Modules {
    /// Bytes of unwind information that there is room for.
    fn room(&self) -> u64 {
        let held = self.by_key.values().flat_map(|module| module.sections());
        let held: u64 = held.map(|section| section.bytes.len() as u64).sum();
        UNWIND_ALL_MAX.saturating_sub(held)
    }
}

type Native = object::elf::FileHeader64<object::Endianness>;

fn read(file: File, name: &str, id: u32, mut room: u64) -> Option<Module> {
    let sizes = Sizes::of(&file)?;
    let cache = ReadCache::new(io::BufReader::new(file.try_clone().ok()?));
    let elf = ElfFile::<Native, _>::parse(&cache).ok()?;
    let machine = elf.elf_header().e_machine(elf.endian());
    let native = if cfg!(target_arch = "aarch64") {
        object::elf::EM_AARCH64
    } else {
        object::elf::EM_X86_64
    };
    if machine != native {
        return None;
    }
    // Only those that are mapped to be executed: neighbours share a page of the file, not of memory.
    let endian = elf.endian();
    let headers = elf.elf_program_headers().iter();
    let code = headers
        .filter(|header| header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X != 0);
    let segments = code.map(|header| {
        let (offset, size) = header.file_range(endian);
        (offset..offset.saturating_add(size), header.p_vaddr(endian))
    });
    let segments = segments.collect();
    let mut section = |name: &str| {
        let section = elf.section_by_name(name)?;
        // The section is read whole, so first comes what the file says of it.
        if section.size() > UNWIND_MAX {
            return None;
        }
        let packed = section.compressed_data().ok()?;
        let size = packed.uncompressed_size;
        if size == 0 || size > room {
            return None;
        }
        let bytes = unpacked(packed)?;
        room -= size;
        let address = section.address();
        Some(Section {
            addresses: address..address.saturating_add(size),
            bytes,
        })
    };
    let eh_frame = section(".eh_frame");
    let debug_frame = eh_frame
        .is_none()
        .then(|| section(".debug_frame"))
        .flatten();
    let eh_frame_hdr = section(".eh_frame_hdr");
    Some(Module {
        id,
        path: name.into(),
        segments,
        sizes,
        eh_frame,
        eh_frame_hdr,
        debug_frame,
        file,
    })
}

fn go_table(file: &File) -> Option<Arc<[u8]>> {
    let cache = ReadCache::new(io::BufReader::new(file.try_clone().ok()?));
    let elf = ElfFile::<Native, _>::parse(&cache).ok()?;
    let section = elf.section_by_name(".gopclntab")?;
    if section.size() > GO_MAX {
        return None;
    }
    section.data().ok().map(Into::into)
}

/// Go packs what others leave as it is.
fn unpacked(packed: CompressedData<'_>) -> Option<Arc<[u8]>> {
    match packed.format {
        CompressionFormat::None => Some(packed.data.into()),
        CompressionFormat::Zlib => {
            let mut bytes = Vec::new();
            let mut input = ZlibDecoder::new(packed.data).take(packed.uncompressed_size);
            input.read_to_end(&mut bytes).ok()?;
            (bytes.len() as u64 == packed.uncompressed_size).then(|| bytes.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    fn packed(data: &[u8], size: u64) -> CompressedData<'_> {
        CompressedData {
            format: CompressionFormat::Zlib,
            data,
            uncompressed_size: size,
        }
    }

    #[test]
    fn a_packed_section_is_as_long_as_it_says() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&[7; 1_000]).unwrap();
        let data = encoder.finish().unwrap();
        assert_eq!(unpacked(packed(&data, 1_000)).unwrap()[..], [7; 1_000]);
        assert_eq!(unpacked(packed(&data, 999)).unwrap().len(), 999);
        assert!(unpacked(packed(&data, 1_001)).is_none());
        assert!(unpacked(packed(&data[..10], 1_000)).is_none());
        assert_eq!(unpacked(CompressedData::none(&data)).unwrap()[..], data[..]);
    }

    #[test]
    fn a_mapping_belongs_to_the_code_and_not_to_its_neighbour_in_the_file() {
        let own = File::open("/proc/self/exe").unwrap();
        let module = |segments| Module {
            id: 1,
            file: own.try_clone().unwrap(),
            path: "a".into(),
            segments,
            sizes: Sizes::default(),
            eh_frame: None,
            eh_frame_hdr: None,
            debug_frame: None,
        };
        // Code that begins in the middle of a page.
        let code = module(vec![(0x46b40..0x9_fd93, 0x47b40)]);
        assert_eq!(code.bias(0x7000_0004_7000, 0x46000), Some(0x7000_0000_0000));
        // A program that says itself where it wants to be.
        let fixed = module(vec![(0x1000..0x2000, 0x40_1000)]);
        assert_eq!(fixed.bias(0x40_1000, 0x1000), Some(0));
        assert_eq!(fixed.bias(0x40_1000, 0x3000), None);
    }

    #[test]
    fn what_is_no_program_is_none() {
        let mut modules = Modules::default();
        for path in [
            "/etc/passwd",
            "/dev/null",
            "/proc",
            "/nonexistent",
            "/proc/self/maps",
        ] {
            assert!(
                modules.open(Path::new(path), path, None).is_none(),
                "{path}"
            );
        }
        let own = Path::new("/proc/self/exe");
        let first = modules.open(own, "own", None).unwrap();
        let again = modules.open(own, "other name", None).unwrap();
        assert!(Rc::ptr_eq(&first, &again));
        assert!(modules.open(own, "own", Some(1)).is_none(), "another file");
    }
}
