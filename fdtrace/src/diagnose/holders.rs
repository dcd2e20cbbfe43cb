//! What fills a table: its fds grouped by kind and target, most first. Pure.

pub mod files;
pub mod folders;

use rustc_hash::{FxHashMap, FxHashSet};

use self::folders::Folders;
use crate::{
    engine::{
        opener::Sequence,
        table::{Entry, OpenFd, Table, Target},
    },
    ground::{kind::Kind, tcp_state::TcpState},
};

/// Groups that are told one by one; the others are told together, by kind.
const GROUPS_MAX: usize = 10;
/// Stacks that are looked at of a group.
pub const OPENERS_MAX: usize = 256;
/// Inodes that are told apart in a group.
pub(super) const INODES_MAX: usize = 1_000;
/// From so many small groups of files on, all of them are one group: one row says more of them than a few of many.
const SMALL_MIN: u32 = 5;
/// A group is small if it is not more than one part in so many of the table, or one fd.
const SMALL_PART: usize = 64;
/// Files of a table whose paths are to be looked at, to tell in which folders they lie.
const LOOKED_AT: usize = 1_024;

/// Fds of one kind that lead to the same, or to things of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What they are.
    pub kind: Kind,
    /// What they lead to: a name or an address. Hostile text. `None`: there is nothing to tell beyond the
    /// kind, or they are several.
    pub target: Option<Vec<u8>>,
    /// The states that they are in, where they are connections, as far as that is known: the most frequent first.
    pub states: Vec<(TcpState, u32)>,
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
    /// Where it is of several files: those to be looked at, to tell where they lie. Evenly chosen, by number and
    /// inode.
    pub files: Vec<(u32, u64)>,
    /// Where those lie, once somebody has looked.
    pub folders: Option<Folders>,
    /// Which stacks have opened them, as far as that is known: up to [`OPENERS_MAX`], of any.
    pub openers: Vec<Sequence>,
}

impl Holder {
    /// The state that all of them are in, as far as it is known.
    #[must_use]
    pub fn state(&self) -> Option<TcpState> {
        match self.states[..] {
            [(state, _)] => Some(state),
            _ => None,
        }
    }

    /// Takes in another group of the same kind and target.
    pub fn join(&mut self, other: &Self) {
        let is_one = |holder: &Self| holder.inodes == 1;
        let is_same = is_one(self) && is_one(other) && self.example.1 == other.example.1;
        if !is_same {
            self.inodes = self.inodes.saturating_add(other.inodes);
        }
        if self.target.is_none() {
            self.targets = self.targets.saturating_add(other.targets);
        }
        for (state, count) in &other.states {
            add_state(&mut self.states, *state, *count);
        }
        sort_states(&mut self.states);
        let room = LOOKED_AT.saturating_sub(self.files.len());
        self.files.extend(other.files.iter().take(room));
        self.count += other.count;
        self.inherited += other.inherited;
        // `None` is the oldest there is.
        self.oldest_ns = self.oldest_ns.min(other.oldest_ns);
        if other.newest_ns >= self.newest_ns {
            self.newest_ns = other.newest_ns;
            self.example = other.example;
        }
    }
}

/// An fd of a group, of which it is known which stack has opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which stack.
    pub sequence: Sequence,
    /// What is open.
    pub open: OpenFd,
    /// Of a connection, its state.
    pub state: Option<TcpState>,
    /// Which of the things that the group leads to, in no order.
    pub target: u32,
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
    opened: Vec<Opened>,
}

impl Group {
    fn add(&mut self, open: &OpenFd) {
        let OpenFd {
            fd,
            inode,
            since_ns,
            is_inherited,
            ..
        } = *open;
        self.count += 1;
        self.inherited += u32::from(is_inherited);
        if since_ns == 0 {
            self.is_from_before = true;
        } else {
            let oldest_ns = self.oldest_ns.unwrap_or(since_ns);
            self.oldest_ns = Some(oldest_ns.min(since_ns));
        }
        if self.count == 1 || since_ns >= self.newest_ns {
            self.newest_ns = since_ns;
            self.example = (fd, inode);
        }
        if self.inodes.len() < INODES_MAX {
            self.inodes.insert(inode);
        }
    }

    /// Takes in a group that leads elsewhere: to the thing of this number.
    fn join(&mut self, other: Self, target: u32, opened_max: usize) {
        self.count += other.count;
        self.inherited += other.inherited;
        self.is_from_before |= other.is_from_before;
        let oldest = self.oldest_ns.into_iter().chain(other.oldest_ns);
        self.oldest_ns = oldest.min();
        if other.newest_ns >= self.newest_ns {
            self.newest_ns = other.newest_ns;
            self.example = other.example;
        }
        let room = opened_max.saturating_sub(self.opened.len());
        let opened = other.opened.into_iter().take(room);
        self.opened
            .extend(opened.map(|opened| Opened { target, ..opened }));
        let room = INODES_MAX.saturating_sub(self.inodes.len());
        self.inodes.extend(other.inodes.into_iter().take(room));
    }

    fn into_crowd(self, kind: Kind, target: Option<Vec<u8>>, targets: u32) -> Crowd {
        let holder = Holder {
            kind,
            target,
            states: Vec::new(),
            targets,
            count: self.count,
            inodes: u32::try_from(self.inodes.len()).unwrap_or(u32::MAX),
            inherited: self.inherited,
            oldest_ns: self.oldest_ns.filter(|_| !self.is_from_before),
            newest_ns: (self.newest_ns > 0).then_some(self.newest_ns),
            example: self.example,
            files: Vec::new(),
            folders: None,
            openers: Vec::new(),
        };
        (holder, self.opened)
    }
}

/// A group with those of its fds of which it is known which stack has opened them.
pub type Crowd = (Holder, Vec<Opened>);

/// Groups a table's fds: the ten largest groups, and what is left of each kind.
#[must_use]
pub fn holders(table: &Table) -> Vec<Holder> {
    groups(table, table.entries.iter(), GROUPS_MAX)
}

/// Groups fds of a table: the largest groups, so many at most, and what is left of each kind. Takes time in
/// proportion to the fds, and in the end no more memory than these need.
#[must_use]
pub fn groups<'a>(
    table: &Table,
    entries: impl Iterator<Item = &'a Entry> + Clone,
    at_most: usize,
) -> Vec<Holder> {
    let crowds = grouped(table, entries, at_most, OPENERS_MAX);
    let holders = crowds.into_iter().map(|(holder, opened)| Holder {
        openers: opened.iter().map(|opened| opened.sequence).collect(),
        ..holder
    });
    holders.collect()
}

/// The same, each group with all its fds of which it is known which stack has opened them.
#[must_use]
pub fn crowds<'a>(
    table: &Table,
    entries: impl Iterator<Item = &'a Entry> + Clone,
    at_most: usize,
) -> Vec<Crowd> {
    grouped(table, entries, at_most, usize::MAX)
}

/// Part of a group: what those of its fds make up that one code path has opened.
#[must_use]
pub fn part_of(whole: &Holder, opened: &[Opened]) -> Holder {
    let mut group = Group::default();
    let mut targets = FxHashSet::default();
    for opened in opened {
        group.add(&opened.open);
        targets.insert(opened.target);
    }
    let targets = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let (mut holder, _) = group.into_crowd(whole.kind, whole.target.clone(), targets);
    for state in opened.iter().filter_map(|opened| opened.state) {
        add_state(&mut holder.states, state, 1);
    }
    sort_states(&mut holder.states);
    if are_files(&holder) {
        let step = opened.len().div_ceil(LOOKED_AT).max(1);
        let chosen = opened.iter().step_by(step);
        holder.files = chosen.map(|it| (it.open.fd, it.open.inode)).collect();
    }
    holder
}

fn add_state(states: &mut Vec<(TcpState, u32)>, state: TcpState, count: u32) {
    match states.iter_mut().find(|(known, _)| *known == state) {
        Some((_, known)) => *known += count,
        None => states.push((state, count)),
    }
}

fn sort_states(states: &mut [(TcpState, u32)]) {
    states.sort_by_key(|(state, count)| (std::cmp::Reverse(*count), *state));
}

/// Is it a group of several files, which have paths?
fn are_files(holder: &Holder) -> bool {
    holder.kind.has_path() && holder.inodes.max(holder.targets) > 1
}

fn grouped<'a>(
    table: &Table,
    entries: impl Iterator<Item = &'a Entry> + Clone,
    at_most: usize,
    opened_max: usize,
) -> Vec<Crowd> {
    let mut groups: FxHashMap<(Kind, Target), Group> = FxHashMap::default();
    let mut fds = 0;
    for entry in entries.clone() {
        fds += 1;
        let group = groups.entry((entry.open.kind, entry.target)).or_default();
        group.add(&entry.open);
        if group.opened.len() < opened_max {
            group.opened.extend(entry.opener.map(|sequence| Opened {
                sequence,
                open: entry.open,
                state: entry.connection.map(|connection| connection.state),
                target: 0,
            }));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // The same order each time: with targets where counts are the same.
    groups.sort_by(
        |((kind, target), group), ((other_kind, other_target), other)| {
            let by_count = other.count.cmp(&group.count);
            let by_kind = || kind.cmp(other_kind);
            let by_target = || table.target(*target).cmp(&table.target(*other_target));
            by_count.then_with(by_kind).then_with(by_target)
        },
    );
    let mut others = groups.split_off(groups.len().min(at_most));
    others.extend(take_small(&mut groups, &others, fds));
    let mut rest: FxHashMap<Kind, (Group, u32)> = FxHashMap::default();
    for ((kind, _), group) in others {
        let (joined, targets) = rest.entry(kind).or_default();
        joined.join(group, *targets, opened_max);
        *targets += 1;
    }
    let mut rows = Rows::default();
    let mut crowds: Vec<Crowd> = Vec::new();
    for ((kind, target), group) in groups {
        rows.insert((kind, Some(target)), crowds.len());
        let target = table.target(target).map(<[u8]>::to_vec);
        crowds.push(group.into_crowd(kind, target, 1));
    }
    for (kind, (group, targets)) in rest {
        rows.insert((kind, None), crowds.len());
        crowds.push(group.into_crowd(kind, None, targets));
    }
    choose_files(&mut crowds, &rows, entries.clone());
    count_states(&mut crowds, &rows, entries);
    crowds.sort_by(|(one, _), (other, _)| {
        let by_count = other.count.cmp(&one.count);
        by_count
            .then(one.kind.cmp(&other.kind))
            .then_with(|| one.target.cmp(&other.target))
    });
    crowds
}

/// Takes the small groups of files out, where these and the `others` are many.
fn take_small(
    groups: &mut Vec<((Kind, Target), Group)>,
    others: &[((Kind, Target), Group)],
    fds: usize,
) -> Vec<((Kind, Target), Group)> {
    let is_small = |group: &Group| group.count == 1 || group.count as usize * SMALL_PART < fds;
    let mut small: FxHashMap<Kind, u32> = FxHashMap::default();
    let kinds = groups.iter().filter(|(_, group)| is_small(group));
    for ((kind, _), _) in kinds.chain(others).filter(|((kind, _), _)| kind.has_path()) {
        *small.entry(*kind).or_default() += 1;
    }
    let are_many = |kind: &Kind| small.get(kind).is_some_and(|count| *count >= SMALL_MIN);
    let taken = groups.extract_if(.., |((kind, _), group)| is_small(group) && are_many(kind));
    taken.collect()
}

/// Chooses the files to be looked at of each row that is of several.
fn choose_files<'a>(crowds: &mut [Crowd], rows: &Rows, entries: impl Iterator<Item = &'a Entry>) {
    let of_several = crowds.iter().filter(|(holder, _)| are_files(holder));
    let fds: usize = of_several.map(|(holder, _)| holder.count as usize).sum();
    if fds == 0 {
        return;
    }
    let step = fds.div_ceil(LOOKED_AT);
    let entries = entries.filter(|entry| entry.open.kind.has_path());
    let mut seen = 0_usize;
    for entry in entries {
        let row = row_of(entry, rows).and_then(|row| crowds.get_mut(row));
        if let Some((holder, _)) = row.filter(|(holder, _)| are_files(holder)) {
            if seen.is_multiple_of(step) {
                holder.files.push((entry.open.fd, entry.open.inode));
            }
            seen += 1;
        }
    }
}

/// Counts the states of the connections of each row.
fn count_states<'a>(crowds: &mut [Crowd], rows: &Rows, entries: impl Iterator<Item = &'a Entry>) {
    for entry in entries {
        let Some(connection) = entry.connection else {
            continue;
        };
        let row = row_of(entry, rows).and_then(|row| crowds.get_mut(row));
        if let Some((holder, _)) = row {
            add_state(&mut holder.states, connection.state, 1);
        }
    }
    for (holder, _) in crowds {
        sort_states(&mut holder.states);
    }
}

/// Rows by what each is of; `None`: of all that is left of its kind.
type Rows = FxHashMap<(Kind, Option<Target>), usize>;

fn row_of(entry: &Entry, rows: &Rows) -> Option<usize> {
    let kind = entry.open.kind;
    let own = rows.get(&(kind, Some(entry.target)));
    own.or_else(|| rows.get(&(kind, None))).copied()
}

#[cfg(test)]
mod tests;
