//! The type table: every type by number, the named ones by name.

use super::{
    error::BtfError,
    format::{Info, Kind, RECORD_LEN, Sections, words},
};

/// Names are shown up to here: `KSYM_NAME_LEN`, the longest name the kernel accepts
/// (`btf_name_valid_identifier` in `kernel/bpf/btf.c`).
const NAME_LEN: usize = 512;
/// Names are hashed up to here. In a damaged BTF all types may share one string of megabytes;
/// without a bound each of them would cost its whole length.
const HASH_LEN: usize = 64;

/// The types of a BTF, in file order; the first has number 1.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    sections: Sections,
    /// Where the record of type `id` starts, at `id - 1`.
    starts: Vec<u32>,
    names: Names,
}

/// One type, in bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type<'a> {
    pub(super) id: u32,
    pub(super) kind: Kind,
    /// `kind_flag`: bitfield sizes in member offsets, signed enumerators, a forward-declared union.
    pub(super) flag: bool,
    /// Offset of its name among the strings.
    pub(super) name: u32,
    /// The third word, `size` or `type`: bytes, or the number of another type.
    pub(super) operand: u32,
    /// What the kind adds behind `struct btf_type`.
    pub(super) tail: &'a [u8],
}

impl<'a> Type<'a> {
    /// `N`-word elements of the tail: members, enumerators, parameters.
    pub(super) fn elements<const N: usize>(self) -> impl ExactSizeIterator<Item = [u32; N]> + 'a {
        self.tail.chunks_exact(N * 4).map(words)
    }
}

impl Table {
    /// Walks all records once.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let sections = Sections::find(&bytes)?;
        let strings = &bytes[sections.strings.clone()];
        // Kernels average 26 bytes a record.
        let mut starts = Vec::with_capacity(sections.types.len() / 24);
        let mut names = Names::new(sections.types.len() / 24);
        let mut at = sections.types.start;
        while at < sections.types.end {
            let id = u32::try_from(starts.len() + 1).unwrap_or(u32::MAX);
            let damaged = |problem| BtfError::Damaged { id, problem };
            let record = &bytes[at..sections.types.end];
            if record.len() < RECORD_LEN {
                return Err(damaged("the types end inside a record"));
            }
            let [name, info] = words(record);
            let info = Info::new(info);
            let len = sections
                .record_len(&bytes, info)
                .ok_or(BtfError::UnknownKind {
                    id,
                    kind: info.number,
                })?;
            if len > record.len() {
                return Err(damaged("the types end inside a record"));
            }
            let name = strings
                .get(name as usize..)
                .ok_or(damaged("its name lies outside the strings"))?;
            names.push(info.kind, name);
            starts.push(u32::try_from(at).map_err(|_| damaged("it lies behind 4 GiB"))?);
            at += len;
        }
        Ok(Self {
            bytes,
            sections,
            starts,
            names,
        })
    }

    /// How many types there are, `void` not counted.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Type number `id`; 0 is `void`. `from` is the type that names it, for the error.
    pub(super) fn get(&self, id: u32, from: u32) -> Result<Type<'_>, BtfError> {
        let Some(index) = id.checked_sub(1) else {
            return Ok(Type {
                id: 0,
                kind: Kind::Void,
                flag: false,
                name: 0,
                operand: 0,
                tail: &[],
            });
        };
        let index = index as usize;
        let Some(&start) = self.starts.get(index) else {
            return Err(BtfError::Damaged {
                id: from,
                problem: "it names a type that does not exist",
            });
        };
        let end = self
            .starts
            .get(index + 1)
            .map_or(self.sections.types.end, |&next| next as usize);
        let record = &self.bytes[start as usize..end];
        let [name, info, operand] = words(record);
        let Info {
            number: _,
            kind,
            flag,
            ..
        } = Info::new(info);
        Ok(Type {
            id,
            kind,
            flag,
            name,
            operand,
            tail: &record[RECORD_LEN..],
        })
    }

    /// The first type called `name` for which `wanted` holds.
    pub(super) fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<Type<'_>> {
        self.names
            .candidates(name.as_bytes())
            .filter_map(|id| self.get(id, id).ok())
            .filter(|found| wanted(found.kind) && self.is_named(found.name, name))
            // A chain runs from the last type to the first.
            .last()
    }

    /// Whether the string at `offset` is exactly `name`. Costs no more than the length of `name`.
    pub(super) fn is_named(&self, offset: u32, name: &str) -> bool {
        let strings = &self.bytes[self.sections.strings.clone()];
        strings
            .get(offset as usize..)
            .and_then(|tail| tail.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The string at `offset` for people to read; cut after [`NAME_LEN`] bytes.
    pub(super) fn text(&self, offset: u32) -> String {
        let strings = &self.bytes[self.sections.strings.clone()];
        let tail = strings.get(offset as usize..).unwrap_or_default();
        String::from_utf8_lossy(up_to_nul(tail)).into_owned()
    }
}

/// The string at the start of `tail`, without its NUL, at most [`NAME_LEN`] bytes of it.
fn up_to_nul(tail: &[u8]) -> &[u8] {
    let tail = &tail[..tail.len().min(NAME_LEN)];
    let len = tail
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(tail.len());
    &tail[..len]
}

/// Type numbers by the hash of their name: heads of chains through `next`.
///
/// Not a `HashMap`, whose keys would borrow from the bytes beside it or copy 80 000 names. An
/// attacker may put all types in one chain: a question then costs one walk over the table.
#[derive(Debug)]
struct Names {
    /// The last type of each chain, 0 for none. A power of two.
    heads: Vec<u32>,
    /// The type before `id` in its chain, at `id - 1`.
    next: Vec<u32>,
}

impl Names {
    fn new(types: usize) -> Self {
        Self {
            heads: vec![0; types.next_power_of_two()],
            next: Vec::with_capacity(types),
        }
    }

    /// The next type of the table. Kinds nobody looks up by name get no place in a chain.
    fn push(&mut self, kind: Kind, tail: &[u8]) {
        let wanted = matches!(
            kind,
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Func | Kind::Typedef
        );
        let mut before = 0;
        if wanted && tail.first() != Some(&0) {
            let chain = self.chain(tail);
            let id = u32::try_from(self.next.len() + 1).unwrap_or(u32::MAX);
            before = std::mem::replace(&mut self.heads[chain], id);
        }
        self.next.push(before);
    }

    /// Numbers of all types whose name may be `name`, the last first.
    fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> {
        let follow = |&id: &u32| (id != 0).then_some(id);
        let first = self.heads.get(self.chain(name)).and_then(follow);
        std::iter::successors(first, move |&id| {
            self.next.get(id as usize - 1).and_then(follow)
        })
    }

    /// FNV-1a up to the NUL or [`HASH_LEN`], which finds the end of the string on the way.
    fn chain(&self, tail: &[u8]) -> usize {
        let mut hash: u32 = 0x811c_9dc5;
        for &byte in tail.iter().take(HASH_LEN).take_while(|&&byte| byte != 0) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        (hash ^ hash >> 15) as usize & (self.heads.len() - 1)
    }
}
