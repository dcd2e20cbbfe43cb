use std::{fs, io::Write, os::unix::fs::FileExt, path::PathBuf};

use flate2::{Compression, write::ZlibEncoder};
use object::elf::{SHF_COMPRESSED, SHT_PROGBITS};

use super::*;

/// What a made-up section holds.
pub(in super::super) enum Content<'a> {
    Bytes(&'a [u8]),
    /// Nothing, of this size: the file has a hole there.
    Hole(u64),
}

/// A made-up section: name, type, flags, content.
pub(in super::super) type Made<'a> = (&'a str, u32, u32, Content<'a>);

/// Where its code is, in the file and in memory.
pub(in super::super) const CODE: u64 = 0x1000;

/// A made-up program, removed when dropped.
pub(in super::super) struct Program(pub(in super::super) PathBuf);

impl Program {
    /// One page of code at [`CODE`], and these sections.
    pub(in super::super) fn new(name: &str, sections: &[Made<'_>]) -> Self {
        let folder = format!("fdtrace-elf-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("program");
        let file = File::create(&path).unwrap();
        let mut names = b"\0".to_vec();
        // The first section is none; the last one has the names.
        let mut headers = vec![0; 64];
        let mut end = 2 * CODE;
        let mut add = |name: &str, kind: u32, flags: u32, content: &Content<'_>| {
            let name_at = u32::try_from(names.len()).unwrap();
            names.extend(name.bytes().chain([0]));
            let bytes = if name == ".shstrtab" {
                &names[..]
            } else {
                match content {
                    Content::Bytes(bytes) => *bytes,
                    Content::Hole(_) => &[],
                }
            };
            file.write_all_at(bytes, end).unwrap();
            let size = match content {
                Content::Hole(size) => *size,
                Content::Bytes(_) => bytes.len() as u64,
            };
            headers.extend(name_at.to_le_bytes());
            headers.extend(kind.to_le_bytes());
            // Flags, address, offset, size; link and information; alignment and size of an entry.
            for word in [u64::from(flags), end, end, size, 0, 1, 24] {
                headers.extend(word.to_le_bytes());
            }
            end += size.next_multiple_of(16);
        };
        for (name, kind, flags, content) in sections {
            add(name, *kind, *flags, content);
        }
        add(".shstrtab", SHT_STRTAB, 0, &Content::Bytes(&[]));
        file.write_all_at(&headers, end).unwrap();
        let count = u16::try_from(sections.len() + 2).unwrap();
        file.write_all_at(&header(end, count), 0).unwrap();
        file.set_len(end + headers.len() as u64).unwrap();
        Self(path)
    }

    pub(in super::super) fn fd(&self) -> OwnedFd {
        let flags = rustix::fs::OFlags::PATH;
        rustix::fs::open(&self.0, flags, rustix::fs::Mode::empty()).unwrap()
    }

    fn read(&self, room: &mut Room) -> Elf {
        Elf::read(1, self.fd(), room).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// The ELF header, and one program header behind it.
fn header(sections_at: u64, sections: u16) -> Vec<u8> {
    let machine = if cfg!(target_arch = "aarch64") {
        183
    } else {
        62_u16
    };
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend([3_u16, machine].map(u16::to_le_bytes).as_flattened());
    header.extend(1_u32.to_le_bytes());
    for word in [CODE, 64, sections_at] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    let halves = [64, 56, 1, 64, sections, sections - 1];
    header.extend(halves.map(u16::to_le_bytes).as_flattened());
    // PT_LOAD, to be read and executed.
    header.extend([1, 5_u32].map(u32::to_le_bytes).as_flattened());
    for word in [CODE, CODE, CODE, CODE, CODE, CODE] {
        header.extend(word.to_le_bytes());
    }
    header
}

const HUGE: u64 = 700 << 20;

#[test]
fn sections_that_are_too_large_are_not_read() {
    let large = |name| (name, SHT_PROGBITS, 0, Content::Hole(HUGE));
    let sections = [
        large(".eh_frame"),
        large(".eh_frame_hdr"),
        large(".debug_frame"),
    ];
    let program = Program::new("unwind", &sections);
    let mut room = Room::default();
    let elf = program.read(&mut room);
    assert_eq!(room.held, 0);
    assert!(elf.eh_frame.is_none() && elf.eh_frame_hdr.is_none() && elf.debug_frame.is_none());
    assert_eq!(elf.bias(0x7000_0000_1000, CODE), Some(0x7000_0000_0000));
    let program = Program::new("go", &[large(".gopclntab")]);
    assert!(program.read(&mut room).go_functions().is_none());
}

#[test]
fn all_files_together_have_a_bound() {
    let size = bounds::UNWIND_SECTION;
    let section = [(".eh_frame", SHT_PROGBITS, 0, Content::Hole(size))];
    let program = Program::new("room", &section);
    let mut room = Room {
        held: bounds::UNWIND_ALL - size,
    };
    assert!(program.read(&mut room).eh_frame.is_some());
    assert_eq!(room.held, bounds::UNWIND_ALL);
    assert!(program.read(&mut room).eh_frame.is_none());
}

#[test]
fn a_table_of_sections_that_is_too_large_is_not_read() {
    let program = Program::new("table", &[]);
    let file = fs::OpenOptions::new().write(true).open(&program.0).unwrap();
    // "See the size of the first section": eleven million.
    file.write_all_at(&0_u16.to_le_bytes(), 60).unwrap();
    let sections_at = 2 * CODE + b"\0.shstrtab\0".len().next_multiple_of(16) as u64;
    file.write_all_at(&(HUGE / 64).to_le_bytes(), sections_at + 32)
        .unwrap();
    file.set_len(sections_at + HUGE).unwrap();
    let elf = program.read(&mut Room::default());
    assert_eq!(elf.names, Names::Nothing);
    assert!(elf.bias(CODE, CODE).is_some());
}

#[test]
fn names_are_read_as_far_as_their_tables_are_within_bounds() {
    let names = |sections: &[Made<'_>]| {
        Program::new("names", sections)
            .read(&mut Room::default())
            .names
    };
    let hole = |name, kind, size| (name, kind, 0, Content::Hole(size));
    assert_eq!(names(&[]), Names::Lines);
    assert_eq!(names(&[hole(".symtab", SHT_SYMTAB, 1 << 20)]), Names::Lines);
    assert_eq!(names(&[hole(".symtab", SHT_SYMTAB, HUGE)]), Names::Nothing);
    assert_eq!(names(&[hole(".other", SHT_STRTAB, HUGE)]), Names::Nothing);
    assert_eq!(
        names(&[hole(".debug_info", SHT_PROGBITS, HUGE)]),
        Names::Lines
    );
    let too_large = hole(".debug_info", SHT_PROGBITS, bounds::DEBUG + 1);
    assert_eq!(names(&[too_large]), Names::Symbols);
    let link = (
        ".gnu_debuglink",
        SHT_PROGBITS,
        0,
        Content::Bytes(b"other\0\0\0sum."),
    );
    assert_eq!(names(&[link]), Names::Symbols);
    // A few bytes that say that they are gigabytes, packed.
    let mut packed = [1_u32, 0].map(u32::to_le_bytes).as_flattened().to_vec();
    packed.extend([1_u64 << 40, 1].map(u64::to_le_bytes).as_flattened());
    let packed = |name, kind| (name, kind, SHF_COMPRESSED, Content::Bytes(&packed));
    assert_eq!(
        names(&[packed(".debug_info", SHT_PROGBITS)]),
        Names::Symbols
    );
    assert_eq!(names(&[packed(".symtab", SHT_SYMTAB)]), Names::Nothing);
}

#[test]
fn a_packed_section_is_as_long_as_it_says() {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[7; 1_000]).unwrap();
    let data = encoder.finish().unwrap();
    assert_eq!(unpacked(&data, 1_000).unwrap()[..], [7; 1_000]);
    assert_eq!(unpacked(&data, 999).unwrap().len(), 999);
    assert!(unpacked(&data, 1_001).is_none());
    assert!(unpacked(&data[..10], 1_000).is_none());
}

#[test]
fn a_mapping_belongs_to_the_code_and_not_to_its_neighbour_in_the_file() {
    // Code that begins in the middle of a page.
    let code = [(0x46b40..0x9_fd93, 0x47b40)];
    assert_eq!(
        bias(&code, 0x7000_0004_7000, 0x46000),
        Some(0x7000_0000_0000)
    );
    // A program that says itself where it wants to be.
    let fixed = [(0x1000..0x2000, 0x40_1000)];
    assert_eq!(bias(&fixed, 0x40_1000, 0x1000), Some(0));
    assert_eq!(bias(&fixed, 0x40_1000, 0x3000), None);
}

#[test]
fn what_is_no_program_is_none() {
    let flags = rustix::fs::OFlags::PATH;
    for path in ["/etc/passwd", "/dev/null", "/proc", "/proc/self/maps"] {
        let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
        assert!(Elf::read(1, fd, &mut Room::default()).is_none(), "{path}");
    }
    let fd = rustix::fs::open("/proc/self/exe", flags, rustix::fs::Mode::empty()).unwrap();
    let own = Elf::read(1, fd, &mut Room::default()).unwrap();
    assert!(own.eh_frame.is_some() && own.eh_frame_hdr.is_some());
    assert_eq!(own.names, Names::Lines);
}

#[test]
fn a_build_id_is_read_from_its_note() {
    let note = |name: u32, length: u32| {
        let lengths = [name, length, 3].map(u32::to_ne_bytes);
        [lengths.as_flattened(), b"GNU\0", &[0xab; 20]].concat()
    };
    assert_eq!(build_id(&note(4, 20)), Some(&[0xab; 20][..]));
    for (name, length) in [(4, 21), (4, 4), (u32::MAX, 20), (4, u32::MAX)] {
        assert_eq!(build_id(&note(name, length)), None);
    }
}
