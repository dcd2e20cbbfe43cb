//! What is in an ELF file, within [`bounds`]: read in the reader process alone.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use flate2::read::ZlibDecoder;
use object::{
    ReadCache, ReadRef,
    elf::{
        self, ELFCOMPRESS_ZLIB, FileHeader64, PF_X, PT_LOAD, SHT_DYNSYM, SHT_NOBITS, SHT_STRTAB,
        SHT_SYMTAB, SectionHeader64,
    },
    endian::Endianness,
    read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader, SectionTable},
};

use super::{bounds, go::Functions};
use crate::enrich::regular::Regular;

pub(super) type Header = FileHeader64<Endianness>;

/// Where distributions keep debug information apart from programs, by build ID. Nowhere else is any looked
/// for: what a program says of it, its owner has written.
const DEBUG_FOLDER: &str = "/usr/lib/debug/.build-id";

/// A section with its place in the file's own addresses.
#[derive(Clone)]
pub(super) struct Section {
    pub(super) addresses: Range<u64>,
    pub(super) bytes: Arc<[u8]>,
}

/// Unwind information that is held of all files together, bytes.
#[derive(Debug, Default)]
pub(super) struct Room {
    held: u64,
}

impl Room {
    /// Takes so many, if there are.
    fn take(&mut self, size: u64) -> Option<()> {
        let held = self.held.checked_add(size)?;
        let has_room = size <= bounds::UNWIND_SECTION && held <= bounds::UNWIND_ALL;
        has_room.then(|| self.held = held)
    }
}

/// Which of a file's names of functions are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// None: its tables exceed their bounds.
    Nothing,
    /// Those of its symbols.
    Symbols,
    /// With files and lines.
    Lines,
}

/// One file.
pub(super) struct Elf {
    pub(super) id: u32,
    pub(super) file: File,
    pub(super) names: Names,
    /// Bytes of its tables of symbols, with their names.
    pub(super) symbols: u64,
    /// Its debug information, where that is in a file of its own.
    pub(super) debug: Option<Box<Elf>>,
    /// Its segments of code: place in the file, and the address that it wants to be at.
    segments: Vec<(Range<u64>, u64)>,
    pub(super) eh_frame: Option<Section>,
    pub(super) eh_frame_hdr: Option<Section>,
    /// What Go has in place of the others.
    pub(super) debug_frame: Option<Section>,
}

impl Elf {
    /// Reads one from an `O_PATH` fd; `None` where it is no ELF file of this machine's.
    pub(super) fn read(id: u32, fd: OwnedFd, room: &mut Room) -> Option<Self> {
        let file = Regular::of(fd).ok()?.open().ok()?;
        let mut elf = parse(id, file, room, false)?;
        elf.debug = debug_file(&elf.file).map(Box::new);
        Some(elf)
    }

    /// The names of a Go program's functions, which stripping leaves.
    pub(super) fn go_functions(&self) -> Option<Functions> {
        let cache = cache(&self.file)?;
        let sections = Sections::of(&cache)?;
        let section = sections.find(b".gopclntab")?;
        let (_, size) = section.file_range(sections.endian)?;
        if size > bounds::GO_TABLE {
            return None;
        }
        Functions::new(section.data(sections.endian, &cache).ok()?.into())
    }

    /// What to add to the file's addresses, given that what is at `offset` in it has been mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        bias(&self.segments, start, offset)
    }

    /// Where a process had its code mapped, and from where in the file, given where it ended in memory
    /// (`end_code` of `load_elf_binary` in `fs/binfmt_elf.c`): the largest address behind a segment of code.
    pub(super) fn code_by_end(&self, end_code: u64) -> Vec<(u64, u64, u64)> {
        let size = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let segments = self.segments.iter();
        let ends = segments.map(|(range, address)| address.saturating_add(size(range)));
        let bias = ends.max().map_or(1, |end| end_code.wrapping_sub(end));
        // Programs are moved by whole pages. Anything else is another file's.
        if end_code == 0 || bias & 0xfff != 0 {
            return Vec::new();
        }
        let mapped = |(range, address): &(Range<u64>, u64)| {
            let start = address.wrapping_add(bias);
            let end = start.wrapping_add(size(range));
            (start & !0xfff, end, range.start & !0xfff)
        };
        self.segments.iter().map(mapped).collect()
    }
}

fn bias(segments: &[(Range<u64>, u64)], start: u64, offset: u64) -> Option<u64> {
    // Mappings begin at pages, segments anywhere in one.
    let is_in = |range: &Range<u64>| range.start & !0xfff <= offset && offset < range.end;
    let (range, address) = segments.iter().find(|(range, _)| is_in(range))?;
    let wanted = address.wrapping_sub(range.start).wrapping_add(offset);
    Some(start.wrapping_sub(wanted))
}

pub(super) type Cache = ReadCache<io::BufReader<File>>;

pub(super) fn cache(file: &File) -> Option<Cache> {
    Some(ReadCache::new(io::BufReader::new(file.try_clone().ok()?)))
}

/// A file whose headers are within bounds: `object` reads as much of it as its header says.
#[derive(Clone, Copy)]
struct Headers<'a>(&'a Cache);

impl<'a> ReadRef<'a> for Headers<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > bounds::HEADERS {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    /// Names of sections: at most 4 096 bytes (`ReadCache`).
    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

struct Sections<'a> {
    endian: Endianness,
    table: SectionTable<'a, Header, Headers<'a>>,
}

impl<'a> Sections<'a> {
    fn of(cache: &'a Cache) -> Option<Self> {
        let header = Header::parse(Headers(cache)).ok()?;
        let endian = header.endian().ok()?;
        let table = header.sections(endian, Headers(cache)).ok()?;
        Some(Self { endian, table })
    }

    fn name(&self, section: &SectionHeader64<Endianness>) -> &'a [u8] {
        let name = self.table.section_name(self.endian, section);
        name.unwrap_or_default()
    }

    fn find(&self, name: &[u8]) -> Option<&'a SectionHeader64<Endianness>> {
        let mut sections = self.table.iter();
        sections.find(|section| self.name(section) == name)
    }
}

/// `is_trusted`: its links to other files may be followed.
fn parse(id: u32, file: File, room: &mut Room, is_trusted: bool) -> Option<Elf> {
    let cache = cache(&file)?;
    let header = Header::parse(Headers(&cache)).ok()?;
    let endian = header.endian().ok()?;
    let native = if cfg!(target_arch = "aarch64") {
        elf::EM_AARCH64
    } else {
        elf::EM_X86_64
    };
    if header.e_machine(endian) != native {
        return None;
    }
    // Only those that are mapped to be executed: neighbours share a page of the file, not of memory.
    let headers = header.program_headers(endian, Headers(&cache)).ok()?.iter();
    let code = headers
        .filter(|header| header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X != 0);
    let segments = code.map(|header| {
        let (offset, size) = header.file_range(endian);
        (offset..offset.saturating_add(size), header.p_vaddr(endian))
    });
    let segments = segments.collect();
    // Without sections there is code all the same.
    let sections = Sections::of(&cache);
    let mut unwind = |name: &[u8]| {
        let sections = sections.as_ref()?;
        unwind_section(sections, sections.find(name)?, &cache, room)
    };
    let eh_frame = unwind(b".eh_frame");
    let debug_frame = match eh_frame {
        None => unwind(b".debug_frame").or_else(|| unwind(b".zdebug_frame")),
        Some(_) => None,
    };
    let eh_frame_hdr = unwind(b".eh_frame_hdr");
    let names = sections
        .as_ref()
        .map(|sections| names(sections, &cache, is_trusted));
    let (names, symbols) = names.unwrap_or((Names::Nothing, 0));
    Some(Elf {
        id,
        names,
        symbols,
        debug: None,
        segments,
        eh_frame,
        eh_frame_hdr,
        debug_frame,
        file,
    })
}

fn unwind_section(
    sections: &Sections<'_>,
    section: &SectionHeader64<Endianness>,
    cache: &Cache,
    room: &mut Room,
) -> Option<Section> {
    let endian = sections.endian;
    let (offset, size) = section.file_range(endian)?;
    let packed = section.compression(endian, Headers(cache)).ok()?;
    let (size, bytes) = match packed {
        None => {
            room.take(size)?;
            (size, cache.read_bytes_at(offset, size).ok()?.into())
        }
        Some((header, offset, packed)) => {
            let size: u64 = header.ch_size(endian);
            let is_zlib = header.ch_type(endian) == ELFCOMPRESS_ZLIB;
            if !is_zlib || packed > bounds::UNWIND_SECTION {
                return None;
            }
            room.take(size)?;
            let packed = cache.read_bytes_at(offset, packed).ok()?;
            (size, unpacked(packed, size)?)
        }
    };
    let address = section.sh_addr(endian);
    (size != 0).then(|| Section {
        addresses: address..address.saturating_add(size),
        bytes,
    })
}

/// Go packs what others leave as it is.
fn unpacked(packed: &[u8], size: u64) -> Option<Arc<[u8]>> {
    let mut bytes = Vec::new();
    let mut input = ZlibDecoder::new(packed).take(size);
    input.read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then(|| bytes.into())
}

/// How much of a file's names can be read, and the bytes of its symbols. The library that reads them maps the file, unpacks what is packed,
/// and follows links to other files, whose names the file's owner has chosen: FIFOs, devices.
fn names(sections: &Sections<'_>, cache: &Cache, is_trusted: bool) -> (Names, u64) {
    const LINKS: [&[u8]; 3] = [b".gnu_debuglink", b".gnu_debugaltlink", b".debug_sup"];
    let endian = sections.endian;
    let (mut symbols, mut debug, mut unpacked, mut has_links) = (0_u64, 0_u64, 0_u64, false);
    for section in sections.table.iter() {
        let name = sections.name(section);
        let is_symbols = matches!(
            section.sh_type(endian),
            SHT_SYMTAB | SHT_DYNSYM | SHT_STRTAB
        );
        let size = match section.sh_type(endian) {
            SHT_NOBITS => 0,
            _ => section.sh_size(endian),
        };
        let packed = match section.compression(endian, Headers(cache)) {
            Ok(packed) => packed.map_or(0, |(header, ..)| header.ch_size(endian)),
            Err(_) => u64::MAX,
        };
        if is_symbols && (size > bounds::SYMBOLS || packed > bounds::SYMBOLS) {
            return (Names::Nothing, 0);
        }
        if is_symbols {
            symbols = symbols.saturating_add(size.max(packed));
        }
        if name.starts_with(b".debug_") {
            debug = debug.saturating_add(size);
        }
        unpacked = unpacked.saturating_add(packed);
        has_links |= !is_trusted && LINKS.contains(&name);
    }
    let names = if has_links || debug > bounds::DEBUG || unpacked > bounds::DEBUG_UNPACKED {
        Names::Symbols
    } else {
        Names::Lines
    };
    (names, symbols)
}

/// Debug information of a file, where root has installed it. Its own links are root's as well.
fn debug_file(file: &File) -> Option<Elf> {
    let cache = cache(file)?;
    let sections = Sections::of(&cache)?;
    let notes = sections.find(b".note.gnu.build-id")?;
    let notes = notes.data(sections.endian, Headers(&cache)).ok()?;
    let id = build_id(notes)?;
    let hex = id.iter().map(|byte| format!("{byte:02x}"));
    let hex: String = hex.collect();
    let (folder, name) = hex.split_at_checked(2)?;
    let found = Regular::find(
        &Path::new(DEBUG_FOLDER)
            .join(folder)
            .join(format!("{name}.debug")),
    );
    let found = found.ok()?;
    if found.uid != 0 || found.mode & 0o022 != 0 {
        return None;
    }
    let mut room = Room {
        held: bounds::UNWIND_ALL,
    };
    parse(0, found.open().ok()?, &mut room, true)
}

/// `NT_GNU_BUILD_ID`: lengths of name and content, type, name, content.
fn build_id(notes: &[u8]) -> Option<&[u8]> {
    const LENGTHS: Range<usize> = 8..64;
    let (name, rest) = notes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (name, length) = (
        u32::from_ne_bytes(*name),
        u32::from_ne_bytes(*length) as usize,
    );
    let name = usize::try_from(name).ok()?.checked_next_multiple_of(4)?;
    let content = rest.get(name..)?;
    LENGTHS
        .contains(&length)
        .then(|| content.get(..length))
        .flatten()
}

#[cfg(test)]
pub(super) mod tests;
