//! Names of functions in Go programs without symbols: the table that Go's own runtime prints stacks by, and
//! that stripping leaves (`.gopclntab`).
//!
//! Its layout since Go 1.18, and since 1.20 with another number in front (src/internal/abi/symtab.go and
//! src/runtime/symtab.go, `pcHeader`):
//!
//! ```text
//! u32 magic, u16 zero, u8 quantum, u8 size of a word, then words:
//! functions, files, start of the text, and offsets of: names, units, files, tables, functions
//! functions: pairs of u32: offset from the start of the text, and of the function's own record behind the pairs
//! record:    u32 the same offset again, i32 offset of its name, …
//! ```

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::elf::Elf;

/// Go 1.18 and 1.19; 1.20 and newer.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Bytes of a name that are kept.
const NAME_MAX: usize = 512;

/// Programs whose tables are held at once: some are tens of megabytes.
const PROGRAMS_MAX: usize = 2;

/// The tables that have been needed last; `None` of programs that have none.
#[derive(Default)]
pub(super) struct GoPrograms(FxHashMap<u32, Option<Functions>>);

impl GoPrograms {
    /// The function at one of a file's addresses.
    pub(super) fn name(&mut self, elf: &Elf, address: u64) -> Option<String> {
        if self.0.values().flatten().count() >= PROGRAMS_MAX && !self.0.contains_key(&elf.id) {
            self.0.clear();
        }
        let functions = self.0.entry(elf.id);
        let functions = functions.or_insert_with(|| elf.go_functions());
        functions.as_ref()?.name(address)
    }
}

/// The table of one program.
pub(super) struct Functions {
    table: Arc<[u8]>,
    count: usize,
    /// Where its code begins, in the file's own addresses.
    text: u64,
    names: usize,
    pairs: usize,
}

impl Functions {
    /// The table, if it is one of a known layout.
    pub(super) fn new(table: Arc<[u8]>) -> Option<Self> {
        let magic = u32_at(&table, 0)?;
        if !MAGICS.contains(&magic) || table.get(7) != Some(&8) {
            return None;
        }
        let word = |index: usize| u64_at(&table, 8 + index * 8);
        let offset = |index| usize::try_from(word(index)?).ok();
        // Of position-independent programs it is only known when they are loaded.
        let text = word(2).filter(|text| *text != 0)?;
        Some(Self {
            count: offset(0)?.min(table.len() / 8),
            text,
            names: offset(3)?,
            pairs: offset(7)?,
            table,
        })
    }

    /// The function at an address in the file.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        let wanted = u32::try_from(address.checked_sub(self.text)?).ok()?;
        let pairs = self.table.get(self.pairs..)?;
        let entry = |index: usize| u32_at(pairs, index * 8);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if entry(middle)? <= wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = low.checked_sub(1)?;
        // Behind the last function comes where it ends.
        if entry(index + 1)? <= wanted {
            return None;
        }
        let record = usize::try_from(u32_at(pairs, index * 8 + 4)?).ok()?;
        let name = u32_at(pairs, record.checked_add(4)?)?;
        let name = self.table.get(self.names.checked_add(name as usize)?..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        let name = &name[..name.len().min(NAME_MAX)];
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two functions, `main.leak` of 0x20 bytes and `main.main` of 0x10.
    fn table() -> Vec<u8> {
        const NAMES: u64 = 72;
        const FUNCTIONS: u64 = 96;
        let mut table = 0xffff_fff1_u32.to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        for word in [2, 0, 0x1000, NAMES, 0, 0, 0, FUNCTIONS] {
            table.extend(word.to_le_bytes());
        }
        table.extend(*b"main.leak\0main.main\0\0\0\0\0");
        for half in [0, 24, 0x20, 32, 0x30, 0, 0, 0, 0x20, 10_u32] {
            table.extend(half.to_le_bytes());
        }
        table
    }

    #[test]
    fn each_address_is_in_one_function_or_none() {
        let functions = Functions::new(table().into()).unwrap();
        let name = |address| functions.name(address).unwrap_or_default();
        assert_eq!(name(0x1000), "main.leak");
        assert_eq!(name(0x101f), "main.leak");
        assert_eq!(name(0x1020), "main.main");
        assert_eq!(name(0x102f), "main.main");
        assert_eq!(name(0x1030), "");
        assert_eq!(name(0xfff), "");
    }

    #[test]
    fn other_layouts_are_not_guessed_at() {
        let mut other = table();
        other[0] = 0xfb;
        assert!(Functions::new(other.into()).is_none());
        assert!(Functions::new(table()[..40].into()).is_none());
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(
            changes in prop::collection::vec((0..136_usize, any::<u8>()), 0..8),
            length in 0..=136_usize,
            address in 0..0x2000_u64,
        ) {
            let mut table = table();
            for (at, byte) in changes {
                if let Some(place) = table.get_mut(at) {
                    *place = byte;
                }
            }
            table.truncate(length);
            if let Some(functions) = Functions::new(table.into()) {
                let _ = functions.name(address);
            }
        }
    }
}
