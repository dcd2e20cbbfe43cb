//! Who has the other ends of the pipes and unix sockets that fill a table. Pure.
//!
//! A pipe that is leaked has another end somewhere: in a child that was forgotten, or nowhere any more. So has a
//! connection: in the server that it leads to, or in nobody who would answer.

use std::cmp::Reverse;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::{holders::Holder, shared};
use crate::{
    engine::{
        Engine,
        table::{OpenFd, Table},
    },
    ground::{kind::Kind, unix_peer::UnixPeer},
};

/// Processes that are told.
pub const SHOWN: usize = 5;
/// A row of them is worth it from one part in so many of the table on.
const PART: u32 = 8;

/// Who has the pipes and unix sockets of the host open.
#[derive(Debug, Default)]
pub struct Users(FxHashMap<(Kind, u64), Vec<u32>>);

/// Another process that has some of the other ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherEnd {
    /// The process.
    pub pid: u32,
    /// Its name. Untrusted text.
    pub comm: String,
    /// How many of them.
    pub count: u32,
}

/// Who has the other ends of what is in a table, of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherEnds {
    /// Other processes, those with most first: [`SHOWN`] at most.
    pub others: Vec<OtherEnd>,
    /// How many other processes there are.
    pub total: usize,
    /// Pipes and sockets of which both ends are in this process.
    pub own: u32,
    /// Of which one end is here and the other one is closed.
    pub closed: u32,
    /// Connections that nobody has accepted yet.
    pub waiting: u32,
    /// Connected sockets whose other end is in no table that is known: of a process that was not looked at, or in a message
    /// on its way.
    pub unknown: u32,
}

/// Who has the other end of the socket by which files came that found no number. Any of them may have sent them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentBy {
    /// The socket's number.
    pub fd: u32,
    /// The processes, the process itself among them if it is so: [`SHOWN`] at most.
    pub processes: Vec<Sender>,
    /// How many there are.
    pub total: usize,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// The process.
    pub pid: u32,
    /// Its name. Untrusted text.
    pub comm: String,
}

/// The same of all kinds that fill a good part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Of pipes.
    pub pipes: Option<OtherEnds>,
    /// Of unix sockets.
    pub unix: Option<OtherEnds>,
    /// Of the socket by which files came that found no number; `None` where it is not connected, or nobody knows.
    pub sent_by: Option<SentBy>,
}

impl Ends {
    /// These, and what was known before of what nobody has looked at again.
    #[must_use]
    pub fn or(self, before: &Self) -> Self {
        Self {
            pipes: self.pipes.or_else(|| before.pipes.clone()),
            unix: self.unix.or_else(|| before.unix.clone()),
            sent_by: self.sent_by.or_else(|| before.sent_by.clone()),
        }
    }
}

impl Users {
    /// Those of all tables. Takes time in proportion to what is open on the host.
    #[must_use]
    pub fn of(engine: &dyn Engine) -> Self {
        let mut users: FxHashMap<_, Vec<u32>> = FxHashMap::default();
        for table in engine.tables().iter().filter(|table| table.is_used) {
            let fds = engine.fds(table.files, 0);
            for open in fds.filter(|open| matches!(open.kind, Kind::Pipe | Kind::Unix)) {
                let users = users.entry((open.kind, open.inode)).or_default();
                if users.last() != Some(&table.tgid) {
                    users.push(table.tgid);
                }
            }
        }
        Self(users)
    }

    /// Who has the other ends of the pipes in a table, which is of this process.
    #[must_use]
    pub fn of_pipes(&self, engine: &dyn Engine, table: &Table, tgid: u32) -> OtherEnds {
        let mut here: FxHashMap<u64, u32> = FxHashMap::default();
        for open in of_kind(table, Kind::Pipe) {
            *here.entry(open.inode).or_default() += 1;
        }
        let mut ends = OtherEnds::default();
        let mut counts = Counts::default();
        for (inode, fds) in here {
            match (
                self.count_others((Kind::Pipe, inode), tgid, &mut counts),
                fds,
            ) {
                (0, 1) => ends.closed += 1,
                (0, _) => ends.own += 1,
                _ => {}
            }
        }
        ends.with(counts, engine)
    }

    /// The same of its unix sockets, as far as the kernel has told what they are connected to.
    #[must_use]
    pub fn of_unix(&self, engine: &dyn Engine, table: &Table, tgid: u32) -> OtherEnds {
        // dup makes another fd, and no other socket.
        let here: FxHashSet<u64> = of_kind(table, Kind::Unix).map(|open| open.inode).collect();
        let mut ends = OtherEnds::default();
        let mut counts = Counts::default();
        for inode in &here {
            match engine.socket(*inode).peer {
                // It waits for connections, or leads nowhere.
                None => {}
                Some(UnixPeer::Waits) => ends.waiting += 1,
                Some(UnixPeer::Closed) => ends.closed += 1,
                Some(UnixPeer::Socket(other)) => {
                    if self.count_others((Kind::Unix, other), tgid, &mut counts) > 0 {
                        continue;
                    }
                    if here.contains(&other) {
                        ends.own += 1;
                    } else {
                        ends.unknown += 1;
                    }
                }
            }
        }
        ends.with(counts, engine)
    }

    /// Who may have sent what a process receives by this fd of its table.
    #[must_use]
    pub fn senders(
        &self,
        engine: &dyn Engine,
        table: &Table,
        (tgid, fd): (u32, u32),
    ) -> Option<SentBy> {
        let receives = of_kind(table, Kind::Unix).find(|open| open.fd == fd)?;
        let Some(UnixPeer::Socket(other)) = engine.socket(receives.inode).peer else {
            return None;
        };
        let mut users = self.0.get(&(Kind::Unix, other)).cloned();
        let users = users.get_or_insert_default();
        if of_kind(table, Kind::Unix).any(|open| open.inode == other) {
            users.push(tgid);
        }
        users.sort_unstable();
        users.dedup();
        let total = users.len();
        let sender = |pid: &u32| Sender {
            pid: *pid,
            comm: shared::comm(engine, *pid),
        };
        (total > 0).then(|| SentBy {
            fd,
            processes: users.iter().take(SHOWN).map(sender).collect(),
            total,
        })
    }

    /// Counts who has a file, but for this process; how many those are.
    fn count_others(&self, file: (Kind, u64), tgid: u32, counts: &mut Counts) -> usize {
        let users = self.0.get(&file).into_iter().flatten();
        let others: FxHashSet<u32> = users.copied().filter(|user| *user != tgid).collect();
        for other in &others {
            *counts.entry(*other).or_default() += 1;
        }
        others.len()
    }
}

/// Ends by the process that has them.
type Counts = FxHashMap<u32, u32>;

impl OtherEnds {
    fn with(self, counts: Counts, engine: &dyn Engine) -> Self {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(pid, count)| (Reverse(*count), *pid));
        let total = counts.len();
        counts.truncate(SHOWN);
        let other = |(pid, count)| OtherEnd {
            pid,
            comm: shared::comm(engine, pid),
            count,
        };
        Self {
            others: counts.into_iter().map(other).collect(),
            total,
            ..self
        }
    }
}

fn of_kind(table: &Table, kind: Kind) -> impl Iterator<Item = OpenFd> {
    let fds = table.entries.iter().map(|entry| entry.open);
    fds.filter(move |open| open.kind == kind)
}

/// Are files of this kind what fills the table, or a good part of it?
#[must_use]
pub fn are_worth_it(holders: &[Holder], kind: Kind) -> bool {
    let all: u32 = holders.iter().map(|holder| holder.count).sum();
    let mut of_kind = holders.iter().filter(|holder| holder.kind == kind);
    of_kind.any(|holder| holder.count > 1 && holder.count.saturating_mul(PART) >= all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::Fake;

    /// Processes 7, a server, and 8 and 9, its workers, with these inodes in their tables.
    fn engine(kind: Kind, inodes: [&[u64]; 3]) -> Fake {
        let mut engine = Fake::default();
        let processes = [(7, "server"), (8, "worker"), (9, "worker")];
        for ((pid, name), inodes) in processes.into_iter().zip(inodes) {
            engine.bind(pid, pid, u64::from(pid) * 10, name);
            for (fd, inode) in (0_u32..).zip(inodes) {
                let open = OpenFd {
                    fd,
                    file: u64::from(pid * 100 + fd),
                    inode: *inode,
                    kind,
                    ..OpenFd::default()
                };
                engine.open(u64::from(pid) * 10, open, "");
            }
        }
        engine
    }

    fn worker(pid: u32, count: u32) -> OtherEnd {
        OtherEnd {
            pid,
            comm: "worker".to_owned(),
            count,
        }
    }

    #[test]
    fn the_other_ends_of_pipes_are_named_and_counted() {
        // 1 and 2 lead to a worker, 3 to two of them, 4 is open both ways here, of 5 the other end is closed.
        let engine = engine(Kind::Pipe, [&[1, 2, 3, 4, 4, 5], &[1, 2, 3, 3], &[3]]);
        let table = engine.table(70).unwrap();
        let ends = Users::of(&engine).of_pipes(&engine, &table, 7);
        let expected = OtherEnds {
            others: vec![worker(8, 3), worker(9, 1)],
            total: 2,
            own: 1,
            closed: 1,
            ..OtherEnds::default()
        };
        assert_eq!(ends, expected);
    }

    #[test]
    fn the_other_ends_of_unix_sockets_are_those_that_they_are_connected_to() {
        // 1 and 2 lead to a worker, and 2 is open twice; 3 leads to two of them, 4 and 5 to each other, 6 to a socket
        // that nobody has, 7 to one that is closed, 8 waits to be accepted, 9 listens.
        let here = [1, 2, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut engine = engine(Kind::Unix, [&here, &[11, 12, 13], &[13]]);
        for (socket, other) in [(1, 11), (2, 12), (3, 13), (4, 5), (5, 4), (6, 16)] {
            engine.peers.insert(socket, UnixPeer::Socket(other));
        }
        engine.peers.insert(7, UnixPeer::Closed);
        engine.peers.insert(8, UnixPeer::Waits);
        let table = engine.table(70).unwrap();
        let ends = Users::of(&engine).of_unix(&engine, &table, 7);
        let expected = OtherEnds {
            others: vec![worker(8, 3), worker(9, 1)],
            total: 2,
            own: 2,
            closed: 1,
            waiting: 1,
            unknown: 1,
        };
        assert_eq!(ends, expected);
    }

    #[test]
    fn who_sends_has_the_other_end_of_the_socket_that_receives() {
        // 1 leads to both workers, 2 and 3 to each other, 4 to none that is known.
        let mut engine = engine(Kind::Unix, [&[1, 2, 3, 4], &[11], &[11]]);
        for (socket, other) in [(1, 11), (2, 3), (3, 2), (4, 14)] {
            engine.peers.insert(socket, UnixPeer::Socket(other));
        }
        let table = engine.table(70).unwrap();
        let users = Users::of(&engine);
        let pids = |fd| {
            let sent = users.senders(&engine, &table, (7, fd))?;
            let pids: Vec<_> = sent.processes.iter().map(|sender| sender.pid).collect();
            assert_eq!((sent.fd, sent.total), (fd, pids.len()));
            Some(pids)
        };
        let told = [pids(0), pids(1), pids(3), pids(99)];
        assert_eq!(told, [Some(vec![8, 9]), Some(vec![7]), None, None]);
    }
}
