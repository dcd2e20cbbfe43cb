//! Who else has the pipes of a table open: the other ends of what fills it. Pure.
//!
//! A pipe that is leaked has another end somewhere: in a child that was forgotten, or nowhere any more.

use std::cmp::Reverse;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::{holders::Holder, shared};
use crate::{engine::Engine, ground::kind::Kind};

/// Processes that are told.
pub const SHOWN: usize = 5;
/// A row of pipes is worth it from one part in so many of the table on.
const PART: u32 = 8;

/// The pipes of the host, and which processes have them open.
#[derive(Debug, Default)]
pub struct Pipes(FxHashMap<u64, Vec<u32>>);

/// Another process that has some of the pipes open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherEnd {
    /// The process.
    pub pid: u32,
    /// Its name. Untrusted text.
    pub comm: String,
    /// How many of the pipes.
    pub count: u32,
}

/// Who has the pipes of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipeEnds {
    /// Other processes, those with most first: [`SHOWN`] at most.
    pub others: Vec<OtherEnd>,
    /// How many other processes there are.
    pub total: usize,
    /// Pipes of which both ends are in this process.
    pub own: u32,
    /// Pipes of which one end is here and the other one is closed.
    pub closed: u32,
}

impl Pipes {
    /// Those of all tables. Takes time in proportion to what is open on the host.
    #[must_use]
    pub fn of(engine: &dyn Engine) -> Self {
        let mut pipes: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
        for table in engine.tables().iter().filter(|table| table.is_used) {
            for open in engine
                .fds(table.files, 0)
                .filter(|open| open.kind == Kind::Pipe)
            {
                let users = pipes.entry(open.inode).or_default();
                if users.last() != Some(&table.tgid) {
                    users.push(table.tgid);
                }
            }
        }
        Self(pipes)
    }

    /// Who has those of a table, which is of this process.
    #[must_use]
    pub fn ends(&self, engine: &dyn Engine, files: u64, tgid: u32) -> PipeEnds {
        let mut here: FxHashMap<u64, u32> = FxHashMap::default();
        for open in engine.fds(files, 0).filter(|open| open.kind == Kind::Pipe) {
            *here.entry(open.inode).or_default() += 1;
        }
        let mut ends = PipeEnds::default();
        let mut counts: FxHashMap<u32, u32> = FxHashMap::default();
        for (inode, fds) in here {
            let users = self.0.get(&inode).into_iter().flatten();
            let others: FxHashSet<u32> = users.copied().filter(|user| *user != tgid).collect();
            match (others.is_empty(), fds) {
                (true, 1) => ends.closed += 1,
                (true, _) => ends.own += 1,
                (false, _) => {}
            }
            for other in others {
                *counts.entry(other).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(pid, count)| (Reverse(*count), *pid));
        ends.total = counts.len();
        counts.truncate(SHOWN);
        let other = |(pid, count)| OtherEnd {
            pid,
            comm: shared::comm(engine, pid),
            count,
        };
        ends.others = counts.into_iter().map(other).collect();
        ends
    }
}

/// Are pipes what fills the table, or a good part of it?
#[must_use]
pub fn are_worth_it(holders: &[Holder]) -> bool {
    let all: u32 = holders.iter().map(|holder| holder.count).sum();
    let mut pipes = holders.iter().filter(|holder| holder.kind == Kind::Pipe);
    pipes.any(|holder| holder.count > 1 && holder.count.saturating_mul(PART) >= all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{fake::Fake, table::OpenFd};

    #[test]
    fn the_other_ends_are_named_and_counted() {
        let mut engine = Fake::default();
        for (pid, name) in [(7, "server"), (8, "worker"), (9, "worker")] {
            engine.bind(pid, pid, u64::from(pid) * 10, name);
        }
        let open = |engine: &mut Fake, pid: u32, fd: u32, inode: u64| {
            let open = OpenFd {
                fd,
                file: u64::from(pid * 100 + fd),
                inode,
                kind: Kind::Pipe,
                ..OpenFd::default()
            };
            engine.open(u64::from(pid) * 10, open, "");
        };
        // 1 and 2 lead to a worker, 3 to two of them, 4 is open both ways here, of 5 the other end is closed.
        for (fd, inode) in [1, 2, 3, 4, 4, 5].into_iter().enumerate() {
            open(&mut engine, 7, u32::try_from(fd).unwrap(), inode);
        }
        for (fd, inode) in [1, 2, 3, 3].into_iter().enumerate() {
            open(&mut engine, 8, u32::try_from(fd).unwrap(), inode);
        }
        open(&mut engine, 9, 0, 3);
        let ends = Pipes::of(&engine).ends(&engine, 70, 7);
        let worker = |pid, count| OtherEnd {
            pid,
            comm: "worker".to_owned(),
            count,
        };
        let expected = PipeEnds {
            others: vec![worker(8, 3), worker(9, 1)],
            total: 2,
            own: 1,
            closed: 1,
        };
        assert_eq!(ends, expected);
    }
}
