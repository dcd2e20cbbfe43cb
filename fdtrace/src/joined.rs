//! The engine that derives nothing: what is open are the kernel's own tables at the moment of a look, and when and by
//! whom each fd was opened is what the hooks have left in its slot. Pure, as `model` is: rows in, tables out.

mod past;
mod reader;

use std::{collections::BTreeMap, fmt, mem};

use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    record::RECORD_MARK,
    slot::JoinedRecord,
};
use rustc_hash::FxHashMap;

use self::past::First;
use crate::{
    engine::{
        Engine,
        opener::{Sequence, Slot},
        openers::Openers,
        sockets::Sockets,
        table::{Entry, Head, OpenFd, Sighting, Socket, Table, TableBuilder, Thread, telling_name},
        trend::Trends,
    },
    ground::{
        kind::{Inode, Kind, Prefix},
        task::Task,
    },
    probe::slots::{Opened, Part, Stamp, Ticks},
    stream::recording::Event,
};

/// What a look has brought.
#[derive(Debug, Default)]
pub struct Look {
    /// All rows, the mark included.
    pub rows: Vec<JoinedRecord>,
    /// All threads that have a table.
    pub threads: Vec<ThreadRecord>,
    /// How full the tables are, and may be.
    pub tasks: Vec<Task>,
    /// What the slots alone tell.
    pub parts: Vec<Part>,
    /// What the hooks have not written into slots.
    pub missed: Missed,
}

/// What the hooks have not written into slots since they were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Files that have come into tables for which there was no chunk of slots left.
    pub without_chunk: u64,
    /// Calls for which the kernel did not enter a program.
    pub skipped: u64,
}

impl Missed {
    /// Have they written everything?
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self {
                without_chunk: 0,
                skipped: 0,
            } => f.write_str("they were opened before fdtrace looked"),
            Self {
                without_chunk,
                skipped: 0,
            } => write!(f, "there was no room for {without_chunk}"),
            Self {
                without_chunk: 0,
                skipped,
            } => write!(f, "the kernel skipped {skipped} calls"),
            Self {
                without_chunk,
                skipped,
            } => write!(
                f,
                "there was no room for {without_chunk}, and the kernel skipped {skipped} calls"
            ),
        }
    }
}

/// All tables as they were at the last look, and what looks before it have found.
#[derive(Debug, Default)]
pub struct Joined {
    /// The first look, and the last one.
    first_looked_ns: u64,
    looked_ns: u64,
    trends: Trends,
    /// Where sockets lead to, as far as somebody has looked.
    pub sockets: Sockets,
    openers: Openers,
    tables: FxHashMap<u64, Known>,
    threads: FxHashMap<u32, Thread>,
    limits: Vec<Task>,
    /// Fds of which nothing tells since when they are open.
    pub unknown: u64,
    /// Those of them whose slot told of another file: a hook was missed.
    pub not_believed: u64,
    /// What the hooks have not written.
    pub missed: Missed,
}

/// A table.
#[derive(Debug, Default)]
struct Known {
    tgid: u32,
    made_ns: u64,
    opened: u64,
    fds: BTreeMap<u32, Row>,
    first: First,
}

impl Known {
    /// What came with a table came here when that was made. Of a table that was made under the hooks, so did each fd of
    /// which no slot tells, as it was in the table that was copied before there were any: unless hooks have missed
    /// something, which it may be.
    fn inherit(&mut self, missed: Missed) {
        if self.made_ns == 0 {
            return;
        }
        for row in self.fds.values_mut() {
            let is_from_before = row.stamp == Stamp::Unknown && missed.is_nothing();
            if is_from_before || row.open.is_inherited {
                row.open.is_inherited = true;
                row.open.since_ns = self.made_ns;
            }
        }
    }
}

/// An fd.
#[derive(Debug)]
struct Row {
    open: OpenFd,
    stamp: Stamp,
    name: Box<[u8]>,
}

impl Stamp {
    fn opened(self) -> Option<Opened> {
        match self {
            Self::Known(opened) => Some(opened),
            Self::Unknown | Self::NotBelieved => None,
        }
    }
}

impl Joined {
    /// Takes a first look in. Without the mark it has no end: nothing is known then.
    #[must_use]
    pub fn new(look: Look) -> Self {
        let mut joined = Self::default();
        joined.take(look);
        joined
    }

    /// What one look tells; `None` where it has no end.
    fn of_look(look: &Look) -> Option<Self> {
        let mark = look.rows.iter().find(|row| row.seen.kind == RECORD_MARK)?;
        let ticks = Ticks::of_mark(mark);
        let mut joined = Self {
            first_looked_ns: mark.seen.time_ns,
            looked_ns: mark.seen.time_ns,
            missed: look.missed,
            ..Self::default()
        };
        for row in look.rows.iter().filter(|row| row.seen.kind != RECORD_MARK) {
            joined.row(row, &ticks);
        }
        for part in &look.parts {
            if let Some(table) = joined.tables.get_mut(&part.files) {
                table.opened += part.opened;
                table.made_ns = table.made_ns.max(part.made_ns);
            }
        }
        for table in joined.tables.values_mut() {
            table.inherit(look.missed);
            table.first = First::of(table, joined.looked_ns);
            for row in table.fds.values() {
                joined.unknown += u64::from(row.open.since_ns == 0);
                joined.not_believed += u64::from(row.stamp == Stamp::NotBelieved);
            }
        }
        let threads = look
            .threads
            .iter()
            .map(|thread| (thread.tid, known(thread)));
        joined.threads = threads.collect();
        Some(joined)
    }

    /// The tables that several processes share are shown once for each of them.
    fn row(&mut self, row: &JoinedRecord, ticks: &Ticks) {
        let seen = &row.seen;
        let table = self.tables.entry(seen.files).or_default();
        table.tgid = seen.tgid;
        let stamp = Stamp::new(row.stamp);
        let opened = stamp.opened();
        let (kind, name) = identity(seen);
        let open = OpenFd {
            fd: seen.fd,
            file: seen.file,
            inode: seen.inode,
            since_ns: opened.map_or(0, |opened| ticks.time_ns(opened.ticks)),
            kind,
            is_inherited: opened.is_some_and(|opened| opened.is_inherited),
        };
        let row = Row {
            open,
            stamp,
            name: name.into(),
        };
        table.fds.insert(seen.fd, row);
    }

    /// Who opens the file of a slot has left a stack. The sequences that belong to nothing any more go into `gone`.
    pub fn put_opener(&mut self, slot: Slot, sequence: Sequence, gone: &mut Vec<Sequence>) {
        let mut openers = mem::take(&mut self.openers);
        openers.put(slot, sequence, &|slot| self.has(slot), gone);
        self.openers = openers;
    }

    /// When and by whom an fd was opened, if that is known; of one that was inherited, in the table it comes from.
    #[must_use]
    pub fn opened(&self, files: u64, fd: u32) -> Option<Opened> {
        self.tables.get(&files)?.fds.get(&fd)?.stamp.opened()
    }

    /// Of how many fds it is not known since when they are open, and why, in words; nothing where it is of all.
    #[must_use]
    pub fn ages_unknown(&self) -> Option<String> {
        let (unknown, missed) = (self.unknown, self.missed);
        (unknown > 0).then(|| format!("ages unknown for {unknown} fds: {missed}"))
    }

    /// How many files have come into a table since it was made or since the hooks were there, without those that came
    /// with it.
    #[must_use]
    pub fn opened_count(&self, files: u64) -> Option<u64> {
        self.tables.get(&files).map(|table| table.opened)
    }
}

/// What a file is, and its name.
fn identity(record: &OpenRecord) -> (Kind, &[u8]) {
    let name = record.name.split(|byte| *byte == 0).next();
    let name = name.unwrap_or_default();
    let inode = Inode {
        magic: record.magic,
        mode: u32::from(record.mode),
        family: u32::from(record.family),
        socket_type: u32::from(record.socket_type),
    };
    (inode.kind(Prefix::of(name)), name)
}

fn known(thread: &ThreadRecord) -> Thread {
    Thread {
        tid: thread.tid,
        tgid: thread.tgid,
        files: thread.files,
        started_ns: thread.started_ns,
        comm: thread.comm,
    }
}

impl Engine for Joined {
    fn first_looked_ns(&self) -> u64 {
        self.first_looked_ns
    }

    fn tables(&self) -> Vec<Head> {
        let heads = self.tables.keys().map(|files| self.head(*files));
        heads.flatten().collect()
    }

    fn head(&self, files: u64) -> Option<Head> {
        let table = self.tables.get(&files)?;
        Some(Head {
            files,
            generation: table.made_ns,
            tgid: table.tgid,
            open: u32::try_from(table.fds.len()).unwrap_or(u32::MAX),
            // The iterator comes to it through a thread that does.
            is_used: true,
        })
    }

    fn thread(&self, tid: u32) -> Option<Thread> {
        self.threads.get(&tid).copied()
    }

    fn threads(&self) -> Box<dyn Iterator<Item = Thread> + '_> {
        Box::new(self.threads.values().copied())
    }

    fn limits(&self) -> Box<dyn Iterator<Item = &Task> + '_> {
        Box::new(self.limits.iter())
    }

    fn limit_of(&self, tgid: u32) -> Option<&Task> {
        let mut of_process = self.limits.iter().filter(|task| task.tgid == tgid);
        let leader = of_process.clone().find(|task| task.tid == tgid);
        leader.or_else(|| of_process.next())
    }

    fn fds(&self, files: u64, from: u32) -> Box<dyn Iterator<Item = OpenFd> + '_> {
        let table = self.tables.get(&files).into_iter();
        let fds = table.flat_map(move |table| table.fds.range(from..));
        Box::new(fds.map(|(_, row)| row.open))
    }

    fn table(&self, files: u64) -> Option<Table> {
        let known = self.tables.get(&files)?;
        let mut builder = TableBuilder::with_capacity(known.fds.len());
        for row in known.fds.values() {
            let OpenFd { fd, file, kind, .. } = row.open;
            let socket = if kind.has_end() {
                self.sockets.get(row.open.inode)
            } else {
                Socket::default()
            };
            let entry = Entry {
                open: row.open,
                connection: socket.connection(kind),
                opener: self.openers.get(files, fd, file),
                ..Entry::default()
            };
            builder.push(entry, socket.end.or_else(|| telling_name(kind, &row.name)));
        }
        let mut table = builder.build();
        table.made_ns = known.made_ns;
        table.followed_ns = known.first.looked_ns;
        table.gained = known.gained();
        table.copied = known.first.copied;
        if let Some(past) = self.trends.of(files, known.made_ns) {
            table.past = past.stretches().to_vec();
        }
        Some(table)
    }

    /// What the kernel tells on the spot is not joined yet.
    fn table_at(&self, sighting: &Sighting) -> Option<Table> {
        let user = self.threads.get(&sighting.tid)?;
        let is_user = (user.files, user.tgid) == (sighting.files, sighting.tgid);
        self.table(sighting.files).filter(|_| is_user)
    }

    fn socket(&self, inode: u64) -> Socket<'_> {
        self.sockets.get(inode)
    }

    /// Recordings of looks have no form yet.
    fn snapshot(&self, _: u64, _: &mut dyn FnMut(Event<'_>)) {}
}

#[cfg(test)]
mod tests;
