//! A snapshot of open files: other ends found, tables summed up.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::task::Task;
use super::{
    file::{Comm, OpenFile},
    kind::Kind,
};

/// Other ends of one file that are named; further ones are counted.
const PEERS_MAX: usize = 64;

/// Where the other end of a pipe or socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The process.
    pub pid: u32,
    /// Its number for it.
    pub fd: u32,
}

/// All fds that have the other end of one file: several processes inherit one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The first ones, so many at most that a line or an object stays readable.
    pub named: Vec<Peer>,
    /// How many there are.
    pub total: usize,
}

impl Peers {
    /// Those of some lists, without the file itself.
    fn of<'a>(lists: impl IntoIterator<Item = &'a Vec<Peer>>, own: Peer) -> Self {
        let mut peers = Self::default();
        for list in lists {
            peers.total += list.len();
            let others = list.iter().filter(|peer| **peer != own);
            let room = PEERS_MAX - peers.named.len();
            peers.named.extend(others.take(room));
            // Only one that is open both ways is in a list of its own other ends.
            peers.total -= usize::from(
                list.binary_search_by_key(&key(own), |peer| key(*peer))
                    .is_ok(),
            );
        }
        peers
    }
}

fn key(peer: Peer) -> (u32, u32) {
    (peer.pid, peer.fd)
}

/// The fds of one pipe or FIFO, by how they are open.
#[derive(Default)]
struct PipeEnds {
    read: Vec<Peer>,
    written: Vec<Peer>,
    both: Vec<Peer>,
}

/// Finds the other ends of each file, by its place in the list, among `all` that are open on the host.
#[must_use]
pub fn peers(files: &[OpenFile], all: &[OpenFile]) -> Vec<Peers> {
    let mut sockets: FxHashMap<u64, Vec<Peer>> = FxHashMap::default();
    let mut pipes: FxHashMap<_, PipeEnds> = FxHashMap::default();
    for file in all {
        match file.kind {
            Kind::Unix => sockets.entry(file.inode).or_default().push(place(file)),
            Kind::Pipe | Kind::Fifo => {
                let ends = pipes.entry((file.device, file.inode)).or_default();
                match file.flags.mode() {
                    "r" => ends.read.push(place(file)),
                    "w" => ends.written.push(place(file)),
                    "rw" => ends.both.push(place(file)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    for ends in pipes.values_mut() {
        ends.both.sort_unstable_by_key(|peer| key(*peer));
    }
    let other_ends = |file: &OpenFile| {
        let own = place(file);
        match file.kind {
            Kind::Unix => {
                let other = file.peer_inode.and_then(|inode| sockets.get(&inode));
                Some(Peers {
                    named: other?.iter().take(PEERS_MAX).copied().collect(),
                    total: other?.len(),
                })
            }
            Kind::Pipe | Kind::Fifo => {
                let ends = pipes.get(&(file.device, file.inode))?;
                Some(match file.flags.mode() {
                    "r" => Peers::of([&ends.written, &ends.both], own),
                    "w" => Peers::of([&ends.read, &ends.both], own),
                    "rw" => Peers::of([&ends.read, &ends.written, &ends.both], own),
                    _ => return None,
                })
            }
            _ => None,
        }
    };
    files
        .iter()
        .map(|file| other_ends(file).unwrap_or_default())
        .collect()
}

fn place(file: &OpenFile) -> Peer {
    Peer {
        pid: file.tgid,
        fd: file.fd,
    }
}

/// One process's table in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The process.
    pub pid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// The process's real user; `None`: no file tells.
    pub uid: Option<u32>,
    /// Numbers taken.
    pub used: Option<u32>,
    /// Files open, whichever were asked for.
    pub open: u32,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// How many of each kind that was asked for.
    pub kinds: BTreeMap<Kind, u32>,
}

impl Usage {
    /// Of the limit, rounded down.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        u64::from(self.used?)
            .saturating_mul(100)
            .checked_div(self.soft)
    }
}

/// How many files of each kind a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// The thread whose table it is.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// The process's real user.
    pub uid: u32,
    /// The name of the thread.
    pub comm: Comm,
    /// All files of the table.
    pub open: u32,
    /// Those that are asked for, by kind.
    pub kinds: BTreeMap<Kind, u32>,
}

/// Sums the files of each table up.
#[must_use]
pub fn kinds(files: &[OpenFile]) -> Vec<Kinds> {
    let mut tables: FxHashMap<u32, Kinds> = FxHashMap::default();
    for file in files {
        let table = tables.entry(file.tid).or_insert_with(|| Kinds {
            tid: file.tid,
            tgid: file.tgid,
            uid: file.uid,
            comm: file.comm,
            open: 0,
            kinds: BTreeMap::new(),
        });
        table.open += 1;
        *table.kinds.entry(file.kind).or_default() += 1;
    }
    tables.into_values().collect()
}

/// Leaves of each table's kinds what `chosen` of its files are.
pub fn keep_chosen(tables: &mut [Kinds], chosen: &[OpenFile]) {
    let mut chosen: FxHashMap<u32, _> = kinds(chosen)
        .into_iter()
        .map(|table| (table.tid, table.kinds))
        .collect();
    for table in tables {
        table.kinds = chosen.remove(&table.tid).unwrap_or_default();
    }
}

/// Each task's table in numbers; the fullest first. Tables without files are shown too.
#[must_use]
pub fn usage(tasks: &[Task], tables: &[Kinds]) -> Vec<Usage> {
    let tables: FxHashMap<u32, _> = tables.iter().map(|table| (table.tid, table)).collect();
    let mut usages: Vec<_> = tasks
        .iter()
        .map(|task| {
            let table = tables.get(&task.tid);
            Usage {
                pid: task.tgid,
                tid: task.tid,
                comm: task.comm.clone(),
                uid: table.map(|table| table.uid),
                used: task.used,
                open: table.map_or(0, |table| table.open),
                soft: task.soft,
                kinds: table.map(|table| table.kinds.clone()).unwrap_or_default(),
            }
        })
        .collect();
    usages.sort_by(|one, other| {
        let share =
            |usage: &Usage, limit: u64| u128::from(usage.used.unwrap_or(0)) * u128::from(limit);
        let order = share(other, one.soft).cmp(&share(one, other.soft));
        order
            .then(one.pid.cmp(&other.pid))
            .then(one.tid.cmp(&other.tid))
    });
    usages
}

#[cfg(test)]
mod tests;
