//! Cuts a kernel's BTF down to the types fdtrace asks for; `fdtrace/tests/btf` was made with it.
//!
//! ```sh
//! cargo run --example mini_btf -- /sys/kernel/btf/vmlinux small.btf struct:file func:alloc_fd
//! cargo run --example mini_btf -- whole.btf small.btf $(cat fdtrace/tests/btf/roots.txt)
//! ```
//!
//! What a kept structure contains by value is kept with it. Pointers in members point to `void`
//! afterwards, and pointers in prototypes to forward declarations, unless the structure is kept.
//! It reads BTF by itself, so that a mistake in fdtrace's reader cannot hide in the fixtures.

use std::{collections::HashMap, env, fs, process::ExitCode};

const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const ENUM64: u32 = 19;

/// How the kinds are written on the command line.
const ROOTS: [(&str, &[u32]); 5] = [
    ("struct", &[STRUCT]),
    ("union", &[UNION]),
    ("enum", &[ENUM, ENUM64]),
    ("func", &[FUNC]),
    ("typedef", &[8]),
];

/// One type: `name`, `info`, `size or type`, then the kind's own words.
type Record = Vec<u32>;

fn kind(record: &[u32]) -> u32 {
    record[1] >> 24 & 0x1f
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [from, to, roots @ ..] = arguments.as_slice() else {
        eprintln!("usage: mini_btf FROM TO KIND:NAME...");
        return ExitCode::from(2);
    };
    let bytes = fs::read(from).expect("FROM is readable");
    let (types, strings) = read(&bytes);
    let mut cut = Cut {
        types: &types,
        strings,
        kept: HashMap::new(),
        out: Vec::new(),
        names: vec![0],
    };
    let mut ids = Vec::new();
    for root in roots {
        let (wanted, name) = root.split_once(':').expect("KIND:NAME");
        let (_, kinds) = ROOTS
            .iter()
            .find(|(word, _)| *word == wanted)
            .expect("a kind of ROOTS");
        let is_root =
            |record: &&Record| kinds.contains(&kind(record)) && cut.name(record[0]) == name;
        match types.iter().position(|record| is_root(&record)) {
            Some(id) => ids.push(id),
            None => eprintln!("{from}: no {root}"),
        }
    }
    // Places first: prototypes then point to the kept structures instead of forward declarations.
    ids.sort_unstable();
    for &id in &ids {
        cut.reserve(id, false);
    }
    for id in ids {
        cut.fill(id, false);
    }
    fs::write(to, cut.write()).expect("TO is writable");
    ExitCode::SUCCESS
}

/// The records by type number, and the strings. Panics on anything but a valid BTF.
fn read(bytes: &[u8]) -> (Vec<Record>, &[u8]) {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let header = word(4) as usize;
    let (start, len) = (header + word(8) as usize, word(12) as usize);
    let strings = &bytes[header + word(16) as usize..][..word(20) as usize];
    let mut types = vec![vec![0, 0, 0]];
    let mut at = start;
    while at < start + len {
        let vlen = (word(at + 4) & 0xff_ffff) as usize;
        let tail = match word(at + 4) >> 24 & 0x7f {
            1 | 14 | 17 => 1,
            ARRAY => 3,
            STRUCT | UNION | 15 | ENUM64 => 3 * vlen,
            ENUM | FUNC_PROTO => 2 * vlen,
            0 | 20.. => panic!("a kind this program does not know"),
            _ => 0,
        };
        types.push((0..3 + tail).map(|i| word(at + 4 * i)).collect());
        at += 4 * (3 + tail);
    }
    (types, strings)
}

struct Cut<'a> {
    types: &'a [Record],
    strings: &'a [u8],
    /// New number by old number, and by whether it stands in a prototype.
    kept: HashMap<(usize, bool), u32>,
    out: Vec<Record>,
    names: Vec<u8>,
}

impl Cut<'_> {
    fn name(&self, at: u32) -> &str {
        let tail = &self.strings[at as usize..];
        let len = tail.iter().position(|&byte| byte == 0).expect("an end");
        std::str::from_utf8(&tail[..len]).expect("ASCII")
    }

    /// Takes a name over; equal ones are written once.
    fn rename(&mut self, at: u32) -> u32 {
        let name = [self.name(at).as_bytes(), &[0]].concat();
        let known = self
            .names
            .windows(name.len())
            .enumerate()
            .find(|(at, window)| *window == name && (*at == 0 || self.names[at - 1] == 0));
        let at = known.map_or(self.names.len(), |(at, _)| at);
        if known.is_none() {
            self.names.extend(name);
        }
        u32::try_from(at).expect("a small file")
    }

    /// Gives an old type its new number, without contents yet.
    fn reserve(&mut self, old: usize, in_prototype: bool) -> u32 {
        self.out.push(Vec::new());
        let new = u32::try_from(self.out.len()).expect("few types");
        self.kept.insert((old, in_prototype), new);
        new
    }

    /// The new number of an old type, which is taken over if it was not yet.
    fn keep(&mut self, old: u32, in_prototype: bool) -> u32 {
        let mut old = old as usize;
        let mut in_prototype = in_prototype;
        match kind(&self.types[old]) {
            0 => return 0,
            // One `void *` for all pointers in members.
            PTR if !in_prototype => {
                old = self
                    .types
                    .iter()
                    .position(|record| kind(record) == PTR)
                    .expect("a pointer");
            }
            STRUCT | UNION if in_prototype && self.kept.contains_key(&(old, false)) => {
                in_prototype = false;
            }
            _ => {}
        }
        if let Some(&new) = self.kept.get(&(old, in_prototype)) {
            return new;
        }
        let new = self.reserve(old, in_prototype);
        self.fill(old, in_prototype);
        new
    }

    /// Writes the record of a reserved type, and keeps what it needs.
    fn fill(&mut self, old: usize, in_prototype: bool) {
        let mut record = self.types[old].clone();
        let this = kind(&record);
        record[0] = self.rename(record[0]);
        match this {
            PTR if !in_prototype => record[2] = 0,
            STRUCT | UNION if in_prototype && !self.by_value_only(old) => {
                record = vec![record[0], FWD << 24 | u32::from(this == UNION) << 31, 0];
            }
            FUNC_PROTO if in_prototype => record = vec![0, FUNC_PROTO << 24, 0],
            STRUCT | UNION => {
                for member in record[3..].chunks_exact_mut(3) {
                    member[0] = self.rename(member[0]);
                    member[1] = self.keep(member[1], false);
                }
            }
            FUNC_PROTO => {
                record[2] = self.keep(record[2], true);
                for parameter in record[3..].chunks_exact_mut(2) {
                    parameter[0] = self.rename(parameter[0]);
                    parameter[1] = self.keep(parameter[1], true);
                }
            }
            ENUM | ENUM64 => {
                let words = if this == ENUM { 2 } else { 3 };
                for enumerator in record[3..].chunks_exact_mut(words) {
                    enumerator[0] = self.rename(enumerator[0]);
                }
            }
            ARRAY => {
                record[3] = self.keep(record[3], in_prototype);
                record[4] = self.keep(record[4], in_prototype);
            }
            PTR | 8..=FUNC | 18 => record[2] = self.keep(record[2], in_prototype),
            _ => {}
        }
        let new = self.kept[&(old, in_prototype)] as usize;
        self.out[new - 1] = record;
    }

    /// Whether a structure is small and unnamed, as behind `kuid_t`: such are handed over by value.
    fn by_value_only(&self, old: usize) -> bool {
        self.name(self.types[old][0]).is_empty()
    }

    fn write(&self) -> Vec<u8> {
        let words: Vec<u32> = self.out.iter().flatten().copied().collect();
        let types = u32::try_from(words.len() * 4).expect("a small file");
        let strings = u32::try_from(self.names.len()).expect("a small file");
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        let mut bytes: Vec<u8> = header
            .iter()
            .chain(&words)
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        bytes.extend(&self.names);
        bytes
    }
}
