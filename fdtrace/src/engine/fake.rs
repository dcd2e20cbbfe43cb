//! An engine for tests of readers: it knows what was put into it, and nothing else.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    Engine,
    table::{Entry, Head, OpenFd, Sighting, Socket, Table, TableBuilder, Thread},
};
use crate::{
    ground::{task::Task, tcp_state::TcpState, unix_peer::UnixPeer},
    stream::recording::Event,
};

/// What it knows.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) threads: Vec<Thread>,
    pub(crate) limits: Vec<Task>,
    /// Where sockets lead to, and their states, by inode.
    pub(crate) sockets: FxHashMap<u64, (&'static str, Option<TcpState>)>,
    /// Other ends of unix sockets, by inode.
    pub(crate) peers: FxHashMap<u64, UnixPeer>,
    generation: u64,
    tables: BTreeMap<u64, Known>,
}

/// A table, and what its fds lead to.
#[derive(Default)]
struct Known {
    tgid: u32,
    generation: u64,
    fds: BTreeMap<u32, (Entry, &'static str)>,
}

impl Fake {
    /// A thread of a process comes to use a table, which is made if need be.
    pub(crate) fn bind(&mut self, process: u32, tid: u32, files: u64, name: &str) {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        self.threads.push(Thread {
            tid,
            tgid: process,
            files,
            comm,
            ..Thread::default()
        });
        self.generation += 1;
        let made = Known {
            generation: self.generation,
            ..Known::default()
        };
        self.tables.entry(files).or_insert(made).tgid = process;
    }

    /// A file comes into a table, which leads there.
    pub(crate) fn open(&mut self, files: u64, open: OpenFd, target: &'static str) {
        let entry = Entry {
            open,
            ..Entry::default()
        };
        let table = self.tables.entry(files).or_default();
        table.fds.insert(open.fd, (entry, target));
    }

    /// The entry of an fd, to be told more of.
    pub(crate) fn entry(&mut self, files: u64, fd: u32) -> &mut Entry {
        let table = self.tables.get_mut(&files).unwrap();
        &mut table.fds.get_mut(&fd).unwrap().0
    }

    /// A file is closed.
    pub(crate) fn close(&mut self, files: u64, fd: u32) {
        self.tables.get_mut(&files).unwrap().fds.remove(&fd);
    }
}

impl Engine for Fake {
    fn first_looked_ns(&self) -> u64 {
        0
    }

    fn tables(&self) -> Vec<Head> {
        let heads = self.tables.keys().map(|files| self.head(*files));
        heads.flatten().collect()
    }

    fn head(&self, files: u64) -> Option<Head> {
        let table = self.tables.get(&files)?;
        Some(Head {
            files,
            generation: table.generation,
            tgid: table.tgid,
            open: u32::try_from(table.fds.len()).unwrap(),
            is_used: self.threads.iter().any(|thread| thread.files == files),
        })
    }

    fn thread(&self, tid: u32) -> Option<Thread> {
        self.threads().find(|thread| thread.tid == tid)
    }

    fn threads(&self) -> Box<dyn Iterator<Item = Thread> + '_> {
        Box::new(self.threads.iter().copied())
    }

    fn limits(&self) -> Box<dyn Iterator<Item = &Task> + '_> {
        Box::new(self.limits.iter())
    }

    fn limit_of(&self, tgid: u32) -> Option<&Task> {
        self.limits().find(|task| task.tgid == tgid)
    }

    fn fds(&self, files: u64, from: u32) -> Box<dyn Iterator<Item = OpenFd> + '_> {
        let table = self.tables.get(&files).into_iter();
        let fds = table.flat_map(move |table| table.fds.range(from..));
        Box::new(fds.map(|(_, (entry, _))| entry.open))
    }

    fn table(&self, files: u64) -> Option<Table> {
        let mut table = TableBuilder::default();
        for (entry, target) in self.tables.get(&files)?.fds.values() {
            let target = Some(target.as_bytes()).filter(|target| !target.is_empty());
            table.push(*entry, target);
        }
        Some(table.build())
    }

    fn table_at(&self, sighting: &Sighting) -> Option<Table> {
        let user = self.thread(sighting.tid)?;
        let is_user = (user.files, user.tgid) == (sighting.files, sighting.tgid);
        self.table(sighting.files).filter(|_| is_user)
    }

    fn socket(&self, inode: u64) -> Socket<'_> {
        let known = self.sockets.get(&inode);
        Socket {
            end: known.map(|(end, _)| end.as_bytes()),
            state: known.and_then(|(_, state)| *state),
            peer: self.peers.get(&inode).copied(),
        }
    }

    fn snapshot(&self, _: u64, _: &mut dyn FnMut(Event<'_>)) {}
}
