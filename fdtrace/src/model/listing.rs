//! A snapshot of open files: other ends found, tables summed up.

use std::collections::{BTreeMap, HashMap};

use super::{file::OpenFile, kind::Kind};
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
    let mut sockets = HashMap::new();
    let mut pipes: HashMap<(u64, bool), Peer> = HashMap::new();
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
                pipes.entry((file.inode, file.mode == "r")).or_insert(place);
            }
            _ => {}
        }
    }
    let other_end = |file: &OpenFile| match file.kind {
        Kind::Unix => sockets.get(&file.peer_inode?).copied(),
        Kind::Pipe => pipes.get(&(file.inode, file.mode != "r")).copied(),
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

/// Sums the files of each task's table up; the fullest first. Tables without files are shown too.
#[must_use]
pub fn usage(tasks: &[Task], files: &[OpenFile]) -> Vec<Usage> {
    let mut kinds: HashMap<u32, BTreeMap<Kind, u32>> = HashMap::new();
    for file in files {
        *kinds
            .entry(file.tid)
            .or_default()
            .entry(file.kind)
            .or_default() += 1;
    }
    let mut usages: Vec<_> = tasks
        .iter()
        .map(|task| {
            let kinds = kinds.get(&task.tid).cloned().unwrap_or_default();
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
