//! A snapshot of open files: other ends found, tables summed up.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    file::{Comm, OpenFile},
    kind::Kind,
};
use crate::stream::decode::Task;

/// Where the other end of a pipe or socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process.
    pub pid: u32,
    /// Its number for it.
    pub fd: u32,
}

/// Finds the other end of each file, by its place in the list: the first fd that has it.
#[must_use]
pub fn peers(files: &[OpenFile]) -> Vec<Option<Peer>> {
    let mut sockets = FxHashMap::default();
    let mut pipes: FxHashMap<(u64, bool), Peer> = FxHashMap::default();
    for file in files {
        let place = Peer {
            pid: file.tgid,
            fd: file.fd,
        };
        match file.kind {
            Kind::Unix => {
                sockets.entry(file.inode).or_insert(place);
            }
            Kind::Pipe => {
                pipes
                    .entry((file.inode, file.flags.mode() == "r"))
                    .or_insert(place);
            }
            _ => {}
        }
    }
    let other_end = |file: &OpenFile| match file.kind {
        Kind::Unix => sockets.get(&file.peer_inode?).copied(),
        Kind::Pipe => pipes.get(&(file.inode, file.flags.mode() != "r")).copied(),
        _ => None,
    };
    files.iter().map(other_end).collect()
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
    /// Numbers taken.
    pub used: Option<u32>,
    /// Files open.
    pub open: u32,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// How many of each kind.
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
    /// Those that there are.
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
            kinds: BTreeMap::new(),
        });
        *table.kinds.entry(file.kind).or_default() += 1;
    }
    tables.into_values().collect()
}

/// Each task's table in numbers; the fullest first. Tables without files are shown too.
#[must_use]
pub fn usage(tasks: &[Task], tables: &[Kinds]) -> Vec<Usage> {
    let kinds: FxHashMap<u32, _> = tables
        .iter()
        .map(|table| (table.tid, &table.kinds))
        .collect();
    let mut usages: Vec<_> = tasks
        .iter()
        .map(|task| {
            let kinds = kinds.get(&task.tid).copied().cloned().unwrap_or_default();
            Usage {
                pid: task.tgid,
                tid: task.tid,
                comm: task.comm.clone(),
                used: task.used,
                open: kinds.values().sum(),
                soft: task.soft,
                kinds,
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
