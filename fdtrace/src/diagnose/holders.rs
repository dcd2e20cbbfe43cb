//! What fills a table: its fds grouped by kind and target, most first. Pure.

use std::borrow::Borrow;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    held::Ends,
    kind::Kind,
    names::{NameId, Names},
    openers::Sequence,
    tables::{slot::Slot, table::Table},
};

/// Groups that are told one by one; the others are told together, by kind.
const GROUPS_MAX: usize = 10;
/// Stacks that are looked at of a group.
pub const OPENERS_MAX: usize = 256;
/// Inodes that are told apart in a group.
const INODES_MAX: usize = 1_000;

/// Fds of one kind that lead to the same, or to things of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What they are.
    pub kind: Kind,
    /// What they lead to: a name or an address. Hostile text. `None`: there is nothing to tell beyond the
    /// kind, or they are several.
    pub target: Option<Vec<u8>>,
    /// How many things they lead to, as far as kind and target tell them apart.
    pub targets: u32,
    /// How many fds.
    pub count: u32,
    /// How many files with an inode of their own; up to a thousand are told apart.
    pub inodes: u32,
    /// How many of the fds came with the table.
    pub inherited: u32,
    /// When the oldest was opened, nanoseconds since boot; `None`: before anybody looked.
    pub oldest_ns: Option<u64>,
    /// The same for the newest.
    pub newest_ns: Option<u64>,
    /// The newest of them, to be looked at: its number and inode.
    pub example: (u32, u64),
    /// Which stacks have opened them, as far as that is known: up to [`OPENERS_MAX`], of any.
    pub openers: Vec<Sequence>,
}

/// What groups are made by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: Kind,
    name: NameId,
    end: Option<&'a [u8]>,
}

impl Key<'_> {
    /// What is shown.
    fn target<'b>(&'b self, names: &'b Names) -> Option<&'b [u8]> {
        let name = names.get(self.name);
        self.end.or((!name.is_empty()).then_some(name))
    }
}

#[derive(Default)]
struct Group {
    count: u32,
    inherited: u32,
    /// Of those whose time is known.
    oldest_ns: Option<u64>,
    newest_ns: u64,
    is_from_before: bool,
    inodes: FxHashSet<u64>,
    example: (u32, u64),
    openers: Vec<Sequence>,
}

impl Group {
    fn add(&mut self, fd: u32, slot: &Slot) {
        self.count += 1;
        self.inherited += u32::from(slot.is_inherited);
        if slot.since_ns == 0 {
            self.is_from_before = true;
        } else {
            let oldest_ns = self.oldest_ns.unwrap_or(slot.since_ns);
            self.oldest_ns = Some(oldest_ns.min(slot.since_ns));
        }
        if self.count == 1 || slot.since_ns >= self.newest_ns {
            self.newest_ns = slot.since_ns;
            self.example = (fd, slot.inode);
        }
        if self.inodes.len() < INODES_MAX {
            self.inodes.insert(slot.inode);
        }
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.inherited += other.inherited;
        self.is_from_before |= other.is_from_before;
        let oldest = self.oldest_ns.into_iter().chain(other.oldest_ns);
        self.oldest_ns = oldest.min();
        if other.newest_ns >= self.newest_ns {
            self.newest_ns = other.newest_ns;
            self.example = other.example;
        }
        let room = OPENERS_MAX.saturating_sub(self.openers.len());
        self.openers.extend(other.openers.into_iter().take(room));
        let room = INODES_MAX.saturating_sub(self.inodes.len());
        self.inodes.extend(other.inodes.into_iter().take(room));
    }

    fn into_holder(self, kind: Kind, target: Option<Vec<u8>>, targets: u32) -> Holder {
        Holder {
            kind,
            target,
            targets,
            count: self.count,
            inodes: u32::try_from(self.inodes.len()).unwrap_or(u32::MAX),
            inherited: self.inherited,
            oldest_ns: self.oldest_ns.filter(|_| !self.is_from_before),
            newest_ns: (self.newest_ns > 0).then_some(self.newest_ns),
            example: self.example,
            openers: self.openers,
        }
    }
}

/// Which stack has opened a slot, where that is known.
pub type OpenerOf<'a> = &'a dyn Fn(u32, &Slot) -> Option<Sequence>;

/// Nobody knows.
pub const NO_OPENERS: OpenerOf<'static> = &|_, _| None;

/// Groups a table's fds: the ten largest groups, and what is left of each kind.
#[must_use]
pub fn holders(table: &Table, names: &Names, ends: &Ends, opener_of: OpenerOf<'_>) -> Vec<Holder> {
    groups(table.slots(), names, ends, opener_of, GROUPS_MAX)
}

/// Groups fds: the largest groups, so many at most, and what is left of each kind. Takes time in
/// proportion to the fds, and in the end no more memory than these need.
#[must_use]
pub fn groups(
    slots: impl Iterator<Item = (u32, impl Borrow<Slot>)>,
    names: &Names,
    ends: &Ends,
    opener_of: OpenerOf<'_>,
    at_most: usize,
) -> Vec<Holder> {
    let mut groups: FxHashMap<Key<'_>, Group> = FxHashMap::default();
    for (fd, slot) in slots {
        let slot = slot.borrow();
        let key = Key {
            kind: slot.kind,
            name: if has_name(slot.kind) {
                slot.name
            } else {
                NameId::default()
            },
            end: ends.get(&fd).map(Vec::as_slice),
        };
        let group = groups.entry(key).or_default();
        group.add(fd, slot);
        if group.openers.len() < OPENERS_MAX {
            group.openers.extend(opener_of(fd, slot));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // The same order each time: with names where counts are the same.
    groups.sort_by(|(key, group), (other_key, other)| {
        let by_count = other.count.cmp(&group.count);
        let by_kind = || key.kind.cmp(&other_key.kind);
        let by_name = || key.target(names).cmp(&other_key.target(names));
        by_count.then_with(by_kind).then_with(by_name)
    });
    let others = groups.split_off(groups.len().min(at_most));
    let mut rest: FxHashMap<Kind, (Group, u32)> = FxHashMap::default();
    for (key, group) in others {
        let (joined, targets) = rest.entry(key.kind).or_default();
        joined.join(group);
        *targets += 1;
    }
    let mut holders: Vec<Holder> = groups
        .into_iter()
        .map(|(key, group)| {
            let target = key.target(names).map(<[u8]>::to_vec);
            group.into_holder(key.kind, target, 1)
        })
        .collect();
    let rest = rest.into_iter();
    holders.extend(rest.map(|(kind, (group, targets))| group.into_holder(kind, None, targets)));
    holders.sort_by(|one, other| {
        let by_count = other.count.cmp(&one.count);
        by_count
            .then(one.kind.cmp(&other.kind))
            .then_with(|| one.target.cmp(&other.target))
    });
    holders
}

/// Does the kernel give things of this kind a name that says what they are?
fn has_name(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::File
            | Kind::Dir
            | Kind::Fifo
            | Kind::Char
            | Kind::Block
            | Kind::Memfd
            | Kind::Anon
            | Kind::Bpf
            | Kind::Unknown
    )
}

#[cfg(test)]
mod tests;
