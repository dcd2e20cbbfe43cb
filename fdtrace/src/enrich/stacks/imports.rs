//! Which ELF files use select(2), by the symbols that they import: a hint. The tables are read in the reader process
//! alone; what follows from them is decided here.
//!
//! What counts: `__fdelt_chk`, which is what `FD_SET` calls in a fortified build, and `select` or `pselect` of a build
//! that is not fortified, where `FD_SET` leaves no trace. A fortified file that imports `select` without
//! `__fdelt_chk` fills no set: it sleeps with it, or has sets of its own size. The C library itself defines them and
//! imports none.

use std::fs::File;

use object::{
    ReadRef,
    elf::{SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, Sym64},
    endian::Endianness,
    read::elf::{FileHeader, SectionHeader, SectionTable, Sym},
};
use serde::{Deserialize, Serialize};

use super::elf::{Cache, Header, cache};
use crate::{diagnose::select::Select, enrich::stacks::bounds};

/// Names of calls; in a static program those of C libraries and of Go's.
const CALLS: [&[u8]; 7] = [
    b"select",
    b"__select",
    b"pselect",
    b"__pselect",
    b"syscall.Select",
    b"golang.org/x/sys/unix.Select",
    b"golang.org/x/sys/unix.Pselect",
];
/// What `FD_SET` of a fortified build calls.
const FD_SET_CHECK: &[u8] = b"__fdelt_chk";

/// Files of these names import it and are not in the way: each looks whether the fd fits, has sets of its own
/// size, or waits for a low fd of its own. Beginnings of names, with where that is to be seen.
const HARMLESS: [&str; 11] = [
    // `BIO_socket_ready` and others compare with FD_SETSIZE (crypto/bio, since 1.1.1).
    "libcrypto.so",
    // `FDSET_SOCK` and `VALID_SOCK` (lib/multi.c, lib/select.h); it waits with poll.
    "libcurl",
    // `seq2set` raises ValueError (Modules/selectmodule.c); selectors and asyncio use epoll.
    "libpython",
    "python",
    // `xprt_register` compares with FD_SETSIZE (src/svc.c).
    "libtirpc.so",
    // epoll comes first (`eventops` in event.c).
    "libevent",
    // `pp_sselect` has sets of any size (pp_sys.c).
    "perl",
    "libperl.so",
    // `rb_fd_set` has sets of any size (thread.c).
    "libruby",
    // It waits for its terminal.
    "libreadline.so",
    "bash",
];

/// What a file's symbols say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Imports {
    /// It uses select.
    Select,
    /// It does not.
    Nothing,
    /// It has no symbols.
    Unknown,
}

/// What is read of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) imports: Imports,
    /// Go's compiler has made it.
    pub(super) is_go: bool,
}

/// Where Go's linker says what it has linked (`cmd/link`, since 1.13).
const GO: &[u8] = b".go.buildinfo";

type Sections<'a> = SectionTable<'a, Header, Symbols<'a>>;

/// Reads a file; `None`: it is no ELF file whose tables are within bounds.
pub(super) fn read(file: &File) -> Option<Found> {
    let cache = cache(file)?;
    let data = Symbols(&cache);
    let header = Header::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let mut all = sections.iter();
    let is_go = all.any(|section| sections.section_name(endian, section) == Ok(GO));
    Some(Found {
        imports: imports(&sections, endian, data)?,
        is_go,
    })
}

fn imports(sections: &Sections<'_>, endian: Endianness, data: Symbols<'_>) -> Option<Imports> {
    let mut is_known = false;
    // A program that is linked statically may have a table of imports with nothing in it.
    for (kind, is_import) in [(SHT_DYNSYM, true), (SHT_SYMTAB, false)] {
        let mut tables = sections.iter();
        let Some(table) = tables.find(|section| section.sh_type(endian) == kind) else {
            continue;
        };
        let symbols: &[Sym64<Endianness>] = table.data_as_array(endian, data).ok()?;
        let strings = sections.section(table.link(endian)).ok()?;
        let strings = strings.data(endian, data).ok()?;
        let wanted = symbols.iter().skip(1);
        let wanted = wanted.filter(|it| (it.st_shndx(endian) == SHN_UNDEF) == is_import);
        let names = wanted.filter_map(|it| name(strings, it.st_name(endian)));
        let seen = Seen::of(names);
        is_known |= seen.symbols > 0;
        if seen.uses_select() {
            return Some(Imports::Select);
        }
        if is_known {
            break;
        }
    }
    Some(if is_known {
        Imports::Nothing
    } else {
        Imports::Unknown
    })
}

/// What is among some names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    symbols: usize,
    calls: bool,
    fills_sets: bool,
    is_fortified: bool,
}

impl Seen {
    fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut seen = Self::default();
        for name in names.filter(|name| !name.is_empty()) {
            seen.symbols += 1;
            seen.calls |= CALLS.contains(&name);
            seen.fills_sets |= name == FD_SET_CHECK;
            seen.is_fortified |= name.starts_with(b"__") && name.ends_with(b"_chk");
        }
        seen
    }

    fn uses_select(&self) -> bool {
        self.fills_sets || self.calls && !self.is_fortified
    }
}

/// A name in a table of names.
pub(super) fn name(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    rest.split(|byte| *byte == 0).next()
}

/// A file of which tables of symbols are read, within bounds.
#[derive(Clone, Copy)]
pub(super) struct Symbols<'a>(pub(super) &'a Cache);

impl<'a> ReadRef<'a> for Symbols<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > bounds::IMPORTS {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(
        self,
        range: std::ops::Range<u64>,
        delimiter: u8,
    ) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

/// What the files of a process say together: its program first, then its libraries.
pub(super) fn judge<'a>(
    program: (&'a str, Option<Imports>),
    libraries: impl Iterator<Item = (&'a str, Option<Imports>)>,
) -> Option<Select> {
    let is_in_the_way = |(path, imports): &(&str, Option<Imports>)| {
        *imports == Some(Imports::Select) && !is_harmless(path)
    };
    let mut files = std::iter::once(program).chain(libraries);
    if let Some((path, _)) = files.find(is_in_the_way) {
        return Some(Select::Imported {
            by: path.to_owned(),
        });
    }
    match program.1 {
        None | Some(Imports::Unknown) => None,
        Some(Imports::Nothing | Imports::Select) => Some(Select::No),
    }
}

fn is_harmless(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    HARMLESS.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str]) -> bool {
        Seen::of(names.iter().map(|name| name.as_bytes())).uses_select()
    }

    #[test]
    fn sleeping_with_select_is_no_use_of_sets() {
        assert!(seen(&["read", "select", "__fdelt_chk", "__printf_chk"]));
        assert!(
            seen(&["read", "select", "__stack_chk_fail"]),
            "not fortified"
        );
        assert!(seen(&["read", "pselect"]));
        assert!(!seen(&["read", "select", "__printf_chk"]), "no FD_SET");
        assert!(!seen(&["read", "epoll_wait", "selectgo"]));
        assert!(seen(&["main.main", "syscall.Select"]));
    }

    #[test]
    fn the_program_is_named_first_and_harmless_files_are_passed_over() {
        let (select, nothing) = (Some(Imports::Select), Some(Imports::Nothing));
        let imported = |by: &str| Some(Select::Imported { by: by.to_owned() });
        let of = |program, libraries: &[(&'static str, Option<Imports>)]| {
            judge(program, libraries.iter().copied())
        };
        let old = ("/lib/libold.so.1", select);
        assert_eq!(of(("/bin/a", select), &[old]), imported("/bin/a"));
        assert_eq!(of(("/bin/a", nothing), &[old]), imported(old.0));
        let crypto = ("/lib/libcrypto.so.3", select);
        assert_eq!(of(("/bin/a", nothing), &[crypto]), Some(Select::No));
        assert_eq!(of(("/usr/bin/python3.11", select), &[]), Some(Select::No));
        assert_eq!(of(("/bin/static", Some(Imports::Unknown)), &[]), None);
        assert_eq!(of(("/bin/gone", None), &[]), None);
        assert_eq!(
            of(("/bin/static", Some(Imports::Unknown)), &[old]),
            imported(old.0)
        );
    }
}
