//! Every fd table on the host, followed change by change.
//!
//! The unit is the table (`files_struct`), not the process: threads can leave their process's table,
//! processes can share one. A record either changes one slot, or says what a table as a whole holds
//! (fork, exec): nothing is derived that the kernel can tell.
//!
//! In each slot the records come in the order of the changes, except that on kernels before 6.8 a
//! closing can be overtaken by the next opening of the same number (`probe::plan`). Therefore a file that
//! another one takes the place of is kept until its own closing is told.

mod brief;
pub mod reconcile;
pub mod slot;
mod snapshot;
pub mod table;

use std::collections::HashSet;

use fdtrace_common::{
    change::{
        ANY_FILE, BitsRecord, CHUNK, CloseRecord, CopyRecord, IN_SCOPE, MAYBE_TOLD, OpenRecord,
        SlotsRecord, ThreadRecord, UNREAD,
    },
    record::RECORD_REPLACED,
};
use rustc_hash::FxHashMap;

use self::{
    brief::Waiting,
    reconcile::Suspects,
    slot::{FD_END, PAGE, Recent, Slot, bits},
    table::Table,
};
use super::names::Names;
use crate::{
    engine::change::{Change, Op, Sink},
    stream::record::Changed,
};

/// Calls that records tell by number, as this machine's tables have them.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Those that copy a table for the thread that makes them: unshare, exec, `close_range`.
    pub unshare: Vec<u32>,
    /// dup and its kin.
    pub dup: Vec<u32>,
    /// Those that take files from other processes.
    pub receive: Vec<u32>,
}

/// Records that a table waits for at most: more can only have been lost.
const AWAITED_MAX: usize = 64;

/// One thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its process.
    pub tgid: u32,
    /// The table it uses.
    pub files: u64,
    /// Start of its process, nanoseconds since boot.
    pub started_ns: u64,
    /// Its name. Hostile text.
    pub comm: [u8; 16],
    /// The pass in which it last changed.
    touched_in: u32,
}

/// All tables, and the threads that use them.
#[derive(Debug, Default)]
pub struct Tables {
    calls: Calls,
    by_address: FxHashMap<u64, Table>,
    threads: FxHashMap<u32, Thread>,
    names: Names,
    recent: Recent,
    waiting: Waiting,
    /// Tables made for a child that has not been told yet, by the thread that forks.
    unborn: FxHashMap<u32, u64>,
    /// The name that a thread has given itself under a number that it did not have yet.
    renamed_by_exec: (u32, [u8; 16]),
    /// Threads that have ended in the pass that is under way.
    ended: HashSet<u32>,
    /// When records happened that tell no time, nanoseconds since boot.
    now_ns: u64,
    /// Number of the last pass that has begun; 0: there was none.
    pass: u32,
    /// When the last pass has ended, nanoseconds since boot; 0: there was none.
    looked_ns: u64,
    /// The same of the first one.
    first_looked_ns: u64,
    generations: u64,
    contradictions: u64,
    suspects: Suspects,
}

/// What a change says of whoever caused it.
#[derive(Clone, Copy, Default)]
struct Actor {
    time_ns: u64,
    tgid: u32,
    tid: u32,
    uid: u32,
    call: u32,
    in_scope: bool,
    /// Its name, where the thread is not known any more.
    comm: Option<[u8; 16]>,
}

impl Tables {
    /// Nothing known yet.
    #[must_use]
    pub fn new(calls: Calls) -> Self {
        Self {
            calls,
            ..Self::default()
        }
    }

    /// A table by the address of its `files_struct`.
    #[must_use]
    pub fn table(&self, files: u64) -> Option<&Table> {
        self.by_address.get(&files)
    }

    /// All tables.
    pub fn all(&self) -> impl Iterator<Item = (u64, &Table)> {
        self.by_address.iter().map(|(files, table)| (*files, table))
    }

    /// A pass ends at this moment: what it finds that nothing has told has come by then.
    pub fn look_at(&mut self, now_ns: u64) {
        self.looked_ns = now_ns;
        if self.first_looked_ns == 0 {
            self.first_looked_ns = now_ns;
        }
    }

    /// The same, to be looked at anew.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (u64, &mut Table)> {
        let tables = self.by_address.iter_mut();
        tables.map(|(files, table)| (*files, table))
    }

    /// A thread.
    #[must_use]
    pub fn thread(&self, tid: u32) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    /// All threads, by their numbers.
    pub fn all_threads(&self) -> impl Iterator<Item = (u32, &Thread)> {
        self.threads.iter().map(|(tid, thread)| (*tid, thread))
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// The names that slots refer to.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The same, for slots that are kept elsewhere.
    pub(super) fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// When the last pass has ended, nanoseconds since boot; 0: there was none.
    #[must_use]
    pub fn looked_ns(&self) -> u64 {
        self.looked_ns
    }

    /// When the first pass has ended: what has begun later has no past that nobody has seen. Nanoseconds since
    /// boot; 0: there was none.
    #[must_use]
    pub fn first_looked_ns(&self) -> u64 {
        self.first_looked_ns
    }

    /// Fds open on the whole host.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.by_address
            .values()
            .map(|table| u64::from(table.open))
            .sum()
    }

    /// Records that did not fit what was known: something before them has been lost.
    #[must_use]
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }

    /// Records that are waited for: each comes a moment later, or was lost.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.by_address.values().map(Table::awaited).sum()
    }

    /// Is there a table whose slots the kernel could not tell in records? The next pass reads it.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.by_address.values().any(|table| table.is_unread)
    }

    /// What comes from here on and tells no time has happened about then, nanoseconds since boot.
    pub fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn time(&self, told_ns: u64) -> u64 {
        if told_ns == 0 { self.now_ns } else { told_ns }
    }

    /// Applies one record.
    pub fn apply(&mut self, record: Changed<'_>, sink: &mut impl Sink) {
        match record {
            Changed::Opened(record) => self.opened(record, sink),
            Changed::Closed(record) => self.closed(record, sink),
            Changed::Copied(record) => self.copied(record, sink),
            Changed::CopiedSlots(record) => self.copied_slots(record, sink),
            Changed::Executed(record) => self.executed(record, sink),
            Changed::Bound(record) => self.bound(record, sink),
            Changed::Exited(record) => self.exited(record, sink),
            Changed::Renamed(record) => self.renamed(record),
        }
    }

    fn opened(&mut self, record: &OpenRecord, sink: &mut impl Sink) {
        let mut slot = self.recent.slot(record, &mut self.names);
        slot.since_ns = self.time(record.time_ns);
        let pass = self.pass;
        let table = Self::table_mut(&mut self.by_address, &mut self.generations, record.files);
        let is_replaced = record.kind == RECORD_REPLACED;
        let is_late = record.replaced == ANY_FILE;
        let mut replaced = None;
        if is_late {
            replaced = table.close_any(record.fd, pass, &mut self.names);
        } else if is_replaced {
            replaced = table.close(record.fd, record.replaced, pass, &mut self.names);
            if replaced.is_none() {
                self.contradictions += Self::close_early(table, record.fd, record.replaced, pass);
            }
        }
        if is_late && table.take_early(record.fd, record.file) {
            self.names.give_back(slot.name);
        } else {
            match table.put(record.fd, slot, pass, &mut self.names) {
                // Its closing has not been told yet.
                Ok(Some(before)) if table.awaited() < AWAITED_MAX => {
                    table.owe(record.fd, before, pass);
                }
                Ok(Some(before)) => {
                    self.contradictions += 1;
                    self.names.give_back(before.name);
                }
                Ok(None) => {}
                Err(slot) => {
                    self.names.give_back(slot.name);
                    self.contradictions += 1;
                    return;
                }
            }
        }
        if let Some(replaced) = replaced {
            self.names.give_back(replaced.name);
        }
        if sink.wants_all() {
            let actor = Actor {
                time_ns: slot.since_ns,
                tgid: record.tgid,
                tid: record.tid,
                uid: record.uid,
                call: record.call,
                in_scope: record.flags & IN_SCOPE != 0,
                comm: None,
            };
            let op = if is_replaced {
                Op::Replace
            } else {
                self.calls.op(record.call)
            };
            self.tell(sink, op, actor, record.files, record.fd, slot);
        }
    }

    fn closed(&mut self, record: &CloseRecord, sink: &mut impl Sink) {
        let pass = self.pass;
        let table = Self::table_mut(&mut self.by_address, &mut self.generations, record.files);
        if !sink.wants_all()
            && let Some(name) = table.close_plain(record.fd, record.file, pass)
        {
            self.names.give_back(name);
            return;
        }
        let slot = table.close(record.fd, record.file, pass, &mut self.names);
        let Some(slot) = slot else {
            if record.flags & MAYBE_TOLD == 0 {
                self.contradictions += Self::close_early(table, record.fd, record.file, pass);
            }
            return;
        };
        if sink.wants_all() {
            let actor = Actor {
                time_ns: self.time(record.time_ns),
                tgid: record.tgid,
                tid: record.tid,
                uid: record.uid,
                call: record.call,
                in_scope: record.flags & IN_SCOPE != 0,
                comm: None,
            };
            self.tell(sink, Op::Close, actor, record.files, record.fd, slot);
        }
        self.names.give_back(slot.name);
    }

    /// Keeps a closing whose opening may come yet; how many could not be kept.
    fn close_early(table: &mut Table, fd: u32, file: u64, pass: u32) -> u64 {
        if table.is_unread {
            // Nothing is known of what was there; what a pass may have shown before is out of date.
            table.touch(fd, pass);
            return 0;
        }
        if table.awaited() < AWAITED_MAX {
            table.close_early(fd, file, pass);
            return 0;
        }
        1
    }

    fn copied(&mut self, record: &CopyRecord, sink: &mut impl Sink) {
        // Whoever had a table at this address has given it up.
        self.drop_table(record.files, Actor::default(), &mut ());
        self.generations += 1;
        let table = Table {
            generation: self.generations,
            tgid: record.tgid,
            copied_from: record.from,
            made_ns: record.time_ns,
            made_by: record.tid,
            is_in_scope: record.flags & IN_SCOPE != 0,
            is_unread: record.flags & UNREAD != 0,
            touched_in: self.pass,
            ..Table::default()
        };
        self.by_address.insert(record.files, table);
        if !self.calls.unshare.contains(&record.call) {
            let unborn = self.unborn.insert(record.tid, record.files);
            if let Some(unborn) = unborn.filter(|unborn| *unborn != record.files) {
                self.drop_unborn(unborn);
            }
            return;
        }
        if let Some(thread) = self.threads.get_mut(&record.tid) {
            let before = std::mem::replace(&mut thread.files, record.files);
            thread.touched_in = self.pass;
            self.join(record.files, record.tgid);
            let actor = Actor {
                time_ns: record.time_ns,
                tgid: record.tgid,
                tid: record.tid,
                uid: record.uid,
                call: record.call,
                in_scope: record.flags & IN_SCOPE != 0,
                comm: None,
            };
            self.leave(before, actor, sink);
        }
    }

    fn copied_slots(&mut self, record: &SlotsRecord, sink: &mut impl Sink) {
        let pass = self.pass;
        if record.first >= FD_END {
            self.contradictions += 1;
            return;
        }
        let from = self
            .by_address
            .get(&record.files)
            .map_or(0, |table| table.copied_from);
        let (table, parent) = if from == record.files {
            (self.by_address.get_mut(&from), None)
        } else {
            let [table, parent] = self.by_address.get_disjoint_mut([&record.files, &from]);
            (table, parent.map(|parent| &*parent))
        };
        let Some(table) = table else {
            self.contradictions += 1;
            return;
        };
        let page =
            parent.and_then(|parent| table.copy_page(parent, record.first, &record.slots, pass));
        let mut told: Vec<(u32, Slot)> = Vec::new();
        if let Some(page) = page {
            if sink.wants_all() {
                let fds = bits(page.live).map(|fd| record.first + fd);
                told.extend(fds.filter_map(|fd| Some((fd, page.get(fd)?))));
            }
        } else {
            let thread = parent.map_or(0, |parent| parent.tgid);
            for (file, fd) in record.slots.iter().zip(record.first..).take(CHUNK) {
                if *file == 0 {
                    continue;
                }
                let known = parent
                    .and_then(|parent| parent.get(fd))
                    .filter(|slot| slot.file == *file);
                let mut slot = known.unwrap_or(Slot {
                    file: *file,
                    tgid: thread,
                    ..Slot::default()
                });
                slot.is_inherited = true;
                slot.since_ns = table.made_ns;
                slot.name = self.names.share(slot.name);
                match table.put(fd, slot, pass, &mut self.names) {
                    Ok(Some(before)) => self.names.give_back(before.name),
                    Ok(None) => {}
                    Err(slot) => self.names.give_back(slot.name),
                }
                if sink.wants_all() {
                    told.push((fd, slot));
                }
            }
        }
        table.turnover.copied = table.turnover.gained;
        // Of a child's table its process is told when it is known.
        let actor = (table.threads > 0).then_some(Actor {
            time_ns: table.made_ns,
            tgid: table.tgid,
            tid: table.made_by,
            in_scope: table.is_in_scope,
            ..Actor::default()
        });
        for (fd, slot) in told {
            if let Some(actor) = actor {
                self.tell(sink, Op::Inherit, actor, record.files, fd, slot);
            }
        }
    }

    /// A child has what its table was made with.
    fn tell_inherited(&self, record: &ThreadRecord, sink: &mut impl Sink) {
        let Some(table) = self.by_address.get(&record.files) else {
            return;
        };
        let actor = Actor {
            time_ns: record.time_ns,
            tgid: record.tgid,
            tid: record.tid,
            uid: record.uid,
            in_scope: record.flags & IN_SCOPE != 0,
            ..Actor::default()
        };
        for (fd, slot) in table.slots() {
            self.tell(sink, Op::Inherit, actor, record.files, fd, slot);
        }
    }

    fn executed(&mut self, record: &BitsRecord, sink: &mut impl Sink) {
        let pass = self.pass;
        if record.first >= FD_END {
            self.contradictions += 1;
            return;
        }
        self.rebind_executed(record, sink);
        let table = Self::table_mut(&mut self.by_address, &mut self.generations, record.files);
        table.touched_in = pass;
        table.is_unread |= record.flags & UNREAD != 0;
        let owed = table.forgive();
        let mut closed: Vec<(u32, Slot)> = Vec::new();
        let firsts = (record.first..).step_by(PAGE as usize);
        for (word, first) in record.bits.iter().zip(firsts).take(record.words as usize) {
            let live = table.page(first).map_or(0, |page| page.live);
            for fd in bits(live & !word) {
                let fd = first + fd;
                let slot = table.take(fd, pass, &mut self.names);
                closed.extend(slot.map(|slot| (fd, slot)));
            }
            self.contradictions += u64::from(!table.is_unread && word & !live != 0);
        }
        for slot in owed {
            self.names.give_back(slot.name);
        }
        let actor = Actor {
            time_ns: record.time_ns,
            tgid: record.tgid,
            tid: record.tid,
            uid: record.uid,
            call: 0,
            in_scope: record.flags & IN_SCOPE != 0,
            comm: None,
        };
        for (fd, slot) in closed {
            self.tell(sink, Op::CloseExec, actor, record.files, fd, slot);
            self.names.give_back(slot.name);
        }
    }

    /// A process has one thread after exec, and that one has the number of its first thread, whichever
    /// it was before. The others have told of their end; the one that called exec has not.
    fn rebind_executed(&mut self, record: &BitsRecord, sink: &mut impl Sink) {
        if record.first > 0 {
            return;
        }
        let caller = self.threads.remove(&record.tid).or_else(|| {
            let mut threads = self.threads.iter();
            let (tid, _) = threads.find(|(_, thread)| thread.tgid == record.tgid)?;
            let tid = *tid;
            self.threads.remove(&tid)
        });
        self.join(record.files, record.tgid);
        if let Some(caller) = caller {
            self.leave(caller.files, Actor::default(), sink);
        }
        let thread = Thread {
            tgid: record.tgid,
            files: record.files,
            started_ns: caller.map_or(0, |thread| thread.started_ns),
            comm: if self.renamed_by_exec.0 == record.tid {
                self.renamed_by_exec.1
            } else {
                caller.map_or([0; 16], |thread| thread.comm)
            },
            touched_in: self.pass,
        };
        self.threads.insert(record.tid, thread);
        self.renamed_by_exec = (0, [0; 16]);
    }

    fn bound(&mut self, record: &ThreadRecord, sink: &mut impl Sink) {
        let is_born = self.unborn.get(&record.creator) == Some(&record.files);
        if is_born {
            self.unborn.remove(&record.creator);
        }
        if record.files == 0 {
            return;
        }
        let thread = Thread {
            tgid: record.tgid,
            files: record.files,
            started_ns: record.started_ns,
            comm: record.comm,
            touched_in: self.pass,
        };
        let before = self.threads.insert(record.tid, thread);
        self.join(record.files, record.tgid);
        if let Some(before) = before {
            // Its end has been lost.
            self.contradictions += 1;
            self.leave(before.files, Actor::default(), sink);
        }
        if is_born && sink.wants_all() {
            self.tell_inherited(record, sink);
        }
    }

    fn exited(&mut self, record: &ThreadRecord, sink: &mut impl Sink) {
        if self.pass > 0 {
            self.ended.insert(record.tid);
        }
        if let Some(unborn) = self.unborn.remove(&record.tid) {
            self.drop_unborn(unborn);
        }
        let Some(thread) = self.threads.remove(&record.tid) else {
            return;
        };
        let actor = Actor {
            time_ns: record.time_ns,
            tgid: record.tgid,
            tid: record.tid,
            uid: record.uid,
            call: 0,
            in_scope: record.flags & IN_SCOPE != 0,
            comm: Some(record.comm),
        };
        self.leave(thread.files, actor, sink);
        if record.files != 0 && record.files != thread.files {
            // It had a table that nothing had said to be its own.
            self.drop_unborn(record.files);
        }
    }

    fn renamed(&mut self, record: &ThreadRecord) {
        match self.threads.get_mut(&record.tid) {
            Some(thread) => thread.comm = record.comm,
            // Exec by another thread than the first: it has the first one's number already.
            None => self.renamed_by_exec = (record.tid, record.comm),
        }
    }

    /// One more thread uses a table.
    fn join(&mut self, files: u64, tgid: u32) {
        let table = Self::table_mut(&mut self.by_address, &mut self.generations, files);
        table.threads += 1;
        table.tgid = tgid;
    }

    /// One thread less uses a table, which ends with the last one.
    fn leave(&mut self, files: u64, actor: Actor, sink: &mut impl Sink) {
        let Some(table) = self.by_address.get_mut(&files) else {
            return;
        };
        // Those of which no thread is known are left to the reconciliation.
        if table.threads == 1 {
            self.drop_table(files, actor, sink);
        } else {
            table.threads = table.threads.saturating_sub(1);
        }
    }

    /// A table that was made and never used.
    fn drop_unborn(&mut self, files: u64) {
        if self
            .by_address
            .get(&files)
            .is_some_and(|table| table.threads == 0)
        {
            self.drop_table(files, Actor::default(), &mut ());
        }
    }

    fn drop_table(&mut self, files: u64, actor: Actor, sink: &mut impl Sink) {
        let Some(table) = self.by_address.remove(&files) else {
            return;
        };
        if sink.wants_all() {
            for (fd, slot) in table.slots() {
                self.tell(sink, Op::CloseExit, actor, files, fd, slot);
            }
        }
        table.release(&mut self.names);
    }

    fn table_mut<'a>(
        tables: &'a mut FxHashMap<u64, Table>,
        generations: &mut u64,
        files: u64,
    ) -> &'a mut Table {
        tables.entry(files).or_insert_with(|| {
            *generations += 1;
            Table {
                generation: *generations,
                ..Table::default()
            }
        })
    }

    fn tell(&self, sink: &mut impl Sink, op: Op, actor: Actor, files: u64, fd: u32, slot: Slot) {
        let thread = self.threads.get(&actor.tid);
        let comm = actor.comm.or(thread.map(|thread| thread.comm));
        let leader = self.threads.get(&actor.tgid);
        let change = Change {
            op,
            time_ns: actor.time_ns,
            files,
            open: slot.open(fd),
            tgid: actor.tgid,
            tid: actor.tid,
            uid: actor.uid,
            call: actor.call,
            in_scope: actor.in_scope,
            comm: comm.unwrap_or_default(),
            process: leader
                .map(|thread| thread.comm)
                .or(comm)
                .unwrap_or_default(),
        };
        sink.change(change, self.names.get(slot.name));
    }
}

impl Calls {
    fn op(&self, call: u32) -> Op {
        if self.dup.contains(&call) {
            Op::Dup
        } else if self.receive.contains(&call) {
            Op::Receive
        } else {
            Op::Open
        }
    }
}

/// The constant, asked of a value.
trait SinkExt: Sink {
    fn wants_all(&self) -> bool {
        Self::WANTS_ALL
    }
}

impl<T: Sink> SinkExt for T {}

#[cfg(test)]
mod tests;
