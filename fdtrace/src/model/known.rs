//! The replayed tables as readers see them.

use super::{
    Model,
    held::HeldTable,
    tables::{Thread as Known, reconcile::Purpose, table::Table as Replayed},
};
use crate::{
    engine::{
        Engine,
        table::{Entry, Head, OpenFd, Sighting, Socket, Table, TableBuilder, Thread, telling_name},
    },
    ground::{task::Task, unix_peer::UnixPeer},
    stream::recording::{Event, Note},
};

impl Engine for Model {
    fn first_looked_ns(&self) -> u64 {
        self.tables.first_looked_ns()
    }

    fn tables(&self) -> Vec<Head> {
        let tables = self.tables.all();
        tables.map(|(files, table)| head(files, table)).collect()
    }

    fn head(&self, files: u64) -> Option<Head> {
        self.tables.table(files).map(|table| head(files, table))
    }

    fn thread(&self, tid: u32) -> Option<Thread> {
        self.tables.thread(tid).map(|known| thread(tid, known))
    }

    fn threads(&self) -> Box<dyn Iterator<Item = Thread> + '_> {
        let threads = self.tables.all_threads();
        Box::new(threads.map(|(tid, known)| thread(tid, known)))
    }

    fn limits(&self) -> Box<dyn Iterator<Item = &Task> + '_> {
        Box::new(self.limits.all())
    }

    fn limit_of(&self, tgid: u32) -> Option<&Task> {
        self.limits.of(tgid)
    }

    fn fds(&self, files: u64, from: u32) -> Box<dyn Iterator<Item = OpenFd> + '_> {
        let table = self.tables.table(files).into_iter();
        let slots = table.flat_map(move |table| table.slots_from(from));
        Box::new(slots.map(|(fd, slot)| slot.open(fd)))
    }

    fn table(&self, files: u64) -> Option<Table> {
        let table = self.tables.table(files)?;
        let mut shown = self.shown(files, table, None);
        shown.followed_ns = self.first_looked_ns();
        Some(shown)
    }

    fn table_at(&self, sighting: &Sighting) -> Option<Table> {
        let Sighting {
            files, tid, tgid, ..
        } = *sighting;
        let user = self.tables.thread(tid);
        let is_user = user.is_some_and(|user| (user.files, user.tgid) == (files, tgid));
        let known = self.tables.table(files).filter(|_| is_user);
        let held = self.held.of(files, tid);
        let looked_ns = self.tables.looked_ns();
        let told = held.and_then(|held| held.applied_to(known, looked_ns, sighting.started_ns));
        // What the kernel tells on the spot is cut off where the ring is full.
        let tables = told.as_ref().into_iter().chain(known);
        let table = tables.min_by_key(|table| sighting.distance(table.open))?;
        let mut shown = self.shown(files, table, held);
        shown.followed_ns = known.map_or(0, |_| self.first_looked_ns());
        Some(shown)
    }

    fn socket(&self, inode: u64) -> Socket<'_> {
        self.sockets.get(inode)
    }

    /// In the form of a pass that has shown them.
    fn snapshot(&self, now_ns: u64, keep: &mut dyn FnMut(Event<'_>)) {
        keep(Event::Note(&Note::PassBegun));
        for thread in self.tables.snapshot_threads() {
            keep(Event::Thread(&thread));
        }
        for mut slot in self.tables.snapshot_slots() {
            slot.replaced = UnixPeer::number(self.sockets.get(slot.inode).peer);
            keep(Event::Slot(&slot));
        }
        let purpose = Purpose::Baseline;
        keep(Event::Note(&Note::PassEnded { purpose, now_ns }));
    }
}

impl Model {
    /// A table with all that is known of its fds; what the kernel has told of its sockets on the spot goes before what
    /// was looked up.
    fn shown(&self, files: u64, table: &Replayed, held: Option<&HeldTable>) -> Table {
        let ends = held.map(|held| held.ends(table)).unwrap_or_default();
        let states = held.map(|held| held.states(table)).unwrap_or_default();
        let names = self.tables.names();
        let mut builder = TableBuilder::with_capacity(table.open as usize);
        for (fd, slot) in table.slots() {
            let socket = if slot.kind.has_end() {
                self.sockets.get(slot.inode)
            } else {
                Socket::default()
            };
            let looked_up = socket.connection(slot.kind);
            let entry = Entry {
                open: slot.open(fd),
                connection: states.get(&fd).copied().or(looked_up),
                opener: self.openers.get(files, fd, slot.file),
                ..Entry::default()
            };
            let end = ends.get(&fd).map(Vec::as_slice).or(socket.end);
            let name = || telling_name(slot.kind, names.get(slot.name));
            builder.push(entry, end.or_else(name));
        }
        let mut shown = builder.build();
        shown.made_ns = table.made_ns;
        shown.gained = table.turnover.gained;
        shown.copied = table.turnover.copied;
        if let Some(past) = self.trends.of(files, table.generation) {
            shown.past = past.stretches().to_vec();
        }
        shown
    }
}

fn head(files: u64, table: &Replayed) -> Head {
    Head {
        files,
        generation: table.generation,
        tgid: table.tgid,
        open: table.open,
        is_used: table.threads > 0,
    }
}

fn thread(tid: u32, known: &Known) -> Thread {
    Thread {
        tid,
        tgid: known.tgid,
        files: known.files,
        started_ns: known.started_ns,
        comm: known.comm,
    }
}

#[cfg(test)]
mod tests;
