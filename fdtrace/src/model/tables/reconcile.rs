//! Joining the stream with what the kernel's iterators show: at the start, and after losses.
//!
//! A pass goes like this:
//!
//! 1. [`Tables::begin_pass`].
//! 2. The iterators run. What they show is handed to [`Pass::thread`] and [`Pass::slot`], while the
//!    ring's records go on being applied.
//! 3. The last thing the iterator does is to put a mark into the ring. When it has come out,
//!    [`Tables::end_pass`].
//!
//! Whatever has changed since the pass began is right already, so nothing that was shown of it counts.
//! What has not changed must be as the iterator has shown it, with one exception: a hook tells of a
//! change a moment before it is made (or after), so that a thread that is held up in between makes the
//! two differ for that long. A difference therefore counts only once it has been there in two passes,
//! with nothing told of that slot between them. The first pass of all has nothing to compare with:
//! what it shows is taken.

use fdtrace_common::change::{OpenRecord, ThreadRecord};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::{
    Actor, Tables, Thread,
    slot::{Slot, bits},
};
use crate::{
    engine::{
        change::{Op, Sink},
        difference::{self, Followed},
    },
    model::names::Names,
};

/// What a pass has collected that differs from the model so far.
#[derive(Debug, Default)]
pub struct Pass {
    slots: Vec<(u64, u32, Slot)>,
    threads: Vec<ThreadRecord>,
}

/// A difference: what the kernel has, 0 for nothing.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    slots: FxHashMap<(u64, u32), u64>,
    threads: FxHashMap<u32, u64>,
    /// Tables that no thread uses, as far as is known.
    idle: FxHashMap<u64, u64>,
}

impl Difference {
    /// Where it is: table and number, or nothing and thread.
    #[must_use]
    pub fn place(&self) -> (Option<u64>, u32) {
        match *self {
            Self::Slot { files, fd, .. } => (Some(files), fd),
            Self::Thread { tid, .. } => (None, tid),
        }
    }
}

/// What a pass has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Slots and threads that the kernel had otherwise, twice: they are as in the kernel now.
    pub repaired: u64,
    /// The same, left as they are: this was an audit.
    pub differences: Vec<Difference>,
    /// Differences that another pass has to confirm.
    pub suspects: usize,
    /// Fds that are open, as the kernel shows them.
    pub open: u64,
}

impl Outcome {
    /// This one, with only those differences whose places the one before has as well.
    #[must_use]
    pub fn common_with(mut self, before: &Self) -> Self {
        let places: Vec<_> = before.differences.iter().map(Difference::place).collect();
        let is_old = |difference: &Difference| places.contains(&difference.place());
        self.differences.retain(is_old);
        self
    }

    /// The differences as readers see them; `names` are those of the tables.
    #[must_use]
    pub fn described(&self, names: &Names) -> Vec<difference::Difference> {
        let described = self.differences.iter().map(|difference| match *difference {
            Difference::Slot {
                files,
                fd,
                model,
                kernel,
            } => difference::Difference::Slot {
                files,
                fd,
                followed: model.map(|slot| Followed {
                    kind: slot.kind,
                    name: names.get(slot.name).to_vec(),
                    file: slot.file,
                }),
                kernel,
            },
            Difference::Thread { tid, model, kernel } => difference::Difference::Thread {
                tid,
                followed: model,
                kernel,
            },
        });
        described.collect()
    }
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Tables from before the start: what is shown is taken.
    Baseline,
    /// There is no stream, only what the iterators show: each difference is a change.
    Look,
    /// Still the start: what was under way when the hooks were armed comes out now. Differences count once
    /// they are confirmed, and are put right without being called repairs.
    Settle,
    /// Healing: differences count once they are confirmed, and are put right.
    Reconcile,
    /// Proof: confirmed differences are told and left.
    Audit,
}

/// What the model and the kernel disagree about, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The files of a slot, where there are any.
    Slot {
        /// The table.
        files: u64,
        /// The number.
        fd: u32,
        /// As it was followed.
        model: Option<Slot>,
        /// As it is: the address of the file.
        kernel: Option<u64>,
    },
    /// The tables of a thread, where it has one.
    Thread {
        /// The thread.
        tid: u32,
        /// As it was followed.
        model: Option<u64>,
        /// As it is.
        kernel: Option<u64>,
    },
}

impl Tables {
    /// Begins a pass: what changes from here on is right whatever the iterators show.
    pub fn begin_pass(&mut self) -> Pass {
        let pass = self.pass;
        let tables = &self.by_address;
        // Something has been told of these since they were suspected.
        self.suspects.slots.retain(|(files, fd), _| {
            !tables
                .get(files)
                .is_some_and(|table| table.is_touched(*fd, pass))
        });
        let threads = &self.threads;
        let ended = &self.ended;
        self.suspects.threads.retain(|tid, _| {
            let thread = threads.get(tid);
            !ended.contains(tid) && thread.is_none_or(|thread| thread.touched_in != pass)
        });
        self.ended.clear();
        // 0 stands for no pass; after 2³² of them nothing is remembered of the first ones.
        self.pass = self.pass.checked_add(1).unwrap_or(1);
        Pass::default()
    }

    /// Ends a pass. Every record that was told before the iterators came to their end has been applied.
    pub fn end_pass(&mut self, pass: Pass, purpose: Purpose, sink: &mut impl Sink) -> Outcome {
        let mut ending = Ending {
            purpose,
            before: std::mem::take(&mut self.suspects),
            now: Suspects::default(),
            outcome: Outcome::default(),
        };
        if purpose == Purpose::Look {
            self.renew_reused(&pass.threads);
        }
        self.bind_threads(pass.threads, &mut ending);
        self.add_missing(pass.slots, &mut ending, sink);
        self.drop_extra(&mut ending, sink);
        self.drop_owed(&mut ending);
        self.drop_idle(&mut ending, sink);
        let Ending {
            now, mut outcome, ..
        } = ending;
        outcome.suspects = now.slots.len() + now.threads.len() + self.awaited();
        outcome.open = self.open();
        if matches!(purpose, Purpose::Baseline | Purpose::Settle) {
            // Nothing was known that a record could have fitted.
            self.contradictions = 0;
        }
        self.suspects = now;
        outcome
    }

    /// Forgets a pass of which nothing is known.
    pub fn abandon_pass(&mut self, pass: Pass) {
        for (_, _, slot) in pass.slots {
            self.names.give_back(slot.name);
        }
    }

    /// Tables that all their users have left since the last look, and others use now: the kernel has made another
    /// table at that address. What they have in common, as what both have inherited, stays as it is.
    fn renew_reused(&mut self, shown: &[ThreadRecord]) {
        let user = |thread: &ThreadRecord| (thread.files, thread.tgid, thread.started_ns);
        let shown: FxHashSet<_> = shown.iter().map(user).collect();
        let known = |thread: &Thread| (thread.files, thread.tgid, thread.started_ns);
        let mut left: FxHashSet<u64> = shown.iter().map(|(files, ..)| *files).collect();
        for thread in self.threads.values() {
            if shown.contains(&known(thread)) {
                left.remove(&thread.files);
            }
        }
        // Nobody has left a table that nobody was known to use.
        let left = self
            .threads
            .values()
            .map(|thread| thread.files)
            .filter(|files| left.remove(files));
        for files in left {
            if let Some(table) = self.by_address.get_mut(&files) {
                self.generations += 1;
                table.generation = self.generations;
            }
        }
    }

    fn bind_threads(&mut self, shown: Vec<ThreadRecord>, ending: &mut Ending) {
        let pass = self.pass;
        let mut here: Vec<u32> = Vec::with_capacity(shown.len());
        // A stream tells of the end of whoever had that number before.
        let is_look = ending.purpose == Purpose::Look;
        let is_same = |thread: &Thread, record: &ThreadRecord| {
            thread.files == record.files && (!is_look || thread.started_ns == record.started_ns)
        };
        for record in shown {
            here.push(record.tid);
            if is_look && let Some(thread) = self.threads.get_mut(&record.tid) {
                // Nobody has told of a new name, as exec gives one.
                thread.comm = record.comm;
            }
            let known = self.threads.get(&record.tid).copied();
            if self.ended.contains(&record.tid)
                || known
                    .is_some_and(|thread| thread.touched_in == pass || is_same(&thread, &record))
            {
                continue;
            }
            let model = known.map(|thread| thread.files);
            if ending.is_thread_repaired(record.tid, model, Some(record.files)) {
                let thread = Thread {
                    tgid: record.tgid,
                    files: record.files,
                    started_ns: record.started_ns,
                    comm: record.comm,
                    touched_in: pass,
                };
                self.threads.insert(record.tid, thread);
            }
        }
        here.sort_unstable();
        let gone = self
            .threads
            .iter()
            .filter(|(tid, thread)| thread.touched_in != pass && here.binary_search(tid).is_err());
        let gone: Vec<(u32, u64)> = gone.map(|(tid, thread)| (*tid, thread.files)).collect();
        for (tid, files) in gone {
            if ending.is_thread_repaired(tid, Some(files), None) {
                self.threads.remove(&tid);
            }
        }
        self.count_users();
    }

    /// Whom a difference is told of.
    fn user_of(&self, files: u64) -> Actor {
        let table = self.table(files);
        let tgid = table.map_or(0, |table| table.tgid);
        let is_known = self.threads.contains_key(&tgid);
        Actor {
            tgid,
            tid: tgid,
            in_scope: true,
            comm: table.filter(|_| !is_known).map(|table| table.comm),
            ..Actor::default()
        }
    }

    /// Counts each table's threads anew: what was lost may have put the count wrong.
    fn count_users(&mut self) {
        for table in self.by_address.values_mut() {
            table.threads = 0;
        }
        for (tid, thread) in &self.threads {
            let table = Self::table_mut(&mut self.by_address, &mut self.generations, thread.files);
            table.threads += 1;
            let is_first = *tid == thread.tgid;
            if is_first || table.tgid != thread.tgid {
                table.comm = thread.comm;
            }
            table.tgid = thread.tgid;
        }
    }

    fn add_missing(
        &mut self,
        shown: Vec<(u64, u32, Slot)>,
        ending: &mut Ending,
        sink: &mut impl Sink,
    ) {
        let pass = self.pass;
        let is_look = ending.purpose == Purpose::Look;
        for (files, fd, mut slot) in shown {
            if is_look {
                // It has come since the last look.
                slot.since_ns = self.looked_ns;
            }
            let table = Self::table_mut(&mut self.by_address, &mut self.generations, files);
            table.see(fd, pass);
            let known = table.get(fd);
            // A stream tells of what comes and goes between two passes; without one, the file may be another one at
            // the same address.
            let is_same = |known: Slot| {
                known.file == slot.file && !(is_look && known.is_outlived_by_slot(&slot))
            };
            let is_settled = table.is_touched(fd, pass) || known.is_some_and(is_same);
            let is_unread = table.is_unread;
            if is_settled
                || !is_unread && !ending.is_slot_repaired(files, fd, known, Some(slot.file))
            {
                self.names.give_back(slot.name);
                continue;
            }
            let before = self
                .by_address
                .get_mut(&files)
                .map(|table| table.put(fd, slot, pass, &mut self.names));
            if let Some(Ok(Some(before))) = before {
                self.names.give_back(before.name);
            }
            if ending.is_told() && !is_unread {
                let op = ending.op(Op::Open, Op::Found);
                self.tell(sink, op, self.user_of(files), files, fd, slot);
            }
        }
    }

    fn drop_extra(&mut self, ending: &mut Ending, sink: &mut impl Sink) {
        let pass = self.pass;
        let mut extra = Vec::new();
        for (files, table) in &mut self.by_address {
            let was_unread = table.is_unread;
            table.is_unread &= table.seen_in != pass;
            // Of a table that has ended since the last look, that is told with its end.
            let has_ended =
                ending.purpose == Purpose::Look && table.threads == 0 && table.seen_in != pass;
            if table.touched_in == pass || has_ended {
                continue;
            }
            for (first, page) in table.pages() {
                let unseen = page.live & !page.seen(pass) & !page.touched(pass);
                extra.extend(bits(unseen).map(|fd| (*files, first + fd, was_unread)));
            }
        }
        for (files, fd, was_unread) in extra {
            let table = self.by_address.get_mut(&files);
            let known = table.and_then(|table| table.get(fd));
            // What exec has closed in a table too large for its records was never told.
            if !was_unread && !ending.is_slot_repaired(files, fd, known, None) {
                continue;
            }
            let table = self.by_address.get_mut(&files);
            if let Some(slot) = table.and_then(|table| table.take(fd, pass, &mut self.names)) {
                if ending.is_told() {
                    let op = if was_unread {
                        Op::CloseExec
                    } else {
                        ending.op(Op::Close, Op::Lost)
                    };
                    self.tell(sink, op, self.user_of(files), files, fd, slot);
                }
                self.names.give_back(slot.name);
            }
        }
    }

    /// Gives up waiting for closings that were owed for a whole pass and longer.
    fn drop_owed(&mut self, ending: &mut Ending) {
        let pass = self.pass;
        for table in self
            .by_address
            .values_mut()
            .filter(|table| table.awaited() > 0)
        {
            let early = table.forget_early_before(pass.saturating_sub(1));
            self.contradictions += early as u64;
            for slot in table.forgive_before(pass.saturating_sub(1), &mut self.names) {
                ending.outcome.repaired += u64::from(ending.purpose == Purpose::Reconcile);
                self.names.give_back(slot.name);
            }
        }
    }

    /// Tables that nobody uses: those whose last two users gave them up at the same moment, and copies
    /// for children that were never made. No process is any the wiser for them.
    fn drop_idle(&mut self, ending: &mut Ending, sink: &mut impl Sink) {
        let pass = self.pass;
        let idle = self.by_address.iter().filter(|(_, table)| {
            table.threads == 0 && table.touched_in != pass && table.seen_in != pass
        });
        let idle: Vec<(u64, u64)> = idle
            .map(|(files, table)| (*files, table.generation))
            .collect();
        for (files, generation) in idle {
            if ending.purpose == Purpose::Look {
                self.drop_table(files, self.user_of(files), sink);
            } else if ending.before.idle.get(&files) == Some(&generation) {
                self.drop_table(files, Actor::default(), &mut ());
            } else {
                ending.now.idle.insert(files, generation);
            }
        }
    }
}

/// A pass that ends: what the one before has suspected, and what comes of it.
struct Ending {
    purpose: Purpose,
    before: Suspects,
    now: Suspects,
    outcome: Outcome,
}

impl Ending {
    /// Is a slot to be put right? Otherwise the difference is suspected, or told.
    fn is_slot_repaired(
        &mut self,
        files: u64,
        fd: u32,
        model: Option<Slot>,
        kernel: Option<u64>,
    ) -> bool {
        let (place, shown) = ((files, fd), kernel.unwrap_or(0));
        let is_confirmed = self.before.slots.get(&place) == Some(&shown);
        let difference = Difference::Slot {
            files,
            fd,
            model,
            kernel,
        };
        let is_repaired = self.decide(is_confirmed, difference);
        if !is_repaired {
            self.now.slots.insert(place, shown);
        }
        is_repaired
    }

    /// The same for a thread's table.
    fn is_thread_repaired(&mut self, tid: u32, model: Option<u64>, kernel: Option<u64>) -> bool {
        let shown = kernel.unwrap_or(0);
        let is_confirmed = self.before.threads.get(&tid) == Some(&shown);
        let is_repaired = self.decide(is_confirmed, Difference::Thread { tid, model, kernel });
        if !is_repaired {
            self.now.threads.insert(tid, shown);
        }
        is_repaired
    }

    /// What a difference is called.
    fn op(&self, change: Op, repair: Op) -> Op {
        if self.purpose == Purpose::Look {
            change
        } else {
            repair
        }
    }

    /// Are repairs facts? At the start they are not: nothing was promised yet.
    fn is_told(&self) -> bool {
        !matches!(self.purpose, Purpose::Baseline | Purpose::Settle)
    }

    fn decide(&mut self, is_confirmed: bool, difference: Difference) -> bool {
        match self.purpose {
            Purpose::Baseline | Purpose::Look => true,
            Purpose::Reconcile if is_confirmed => {
                self.outcome.repaired += 1;
                true
            }
            Purpose::Audit if is_confirmed => {
                self.outcome.differences.push(difference);
                false
            }
            Purpose::Settle => is_confirmed,
            Purpose::Reconcile | Purpose::Audit => false,
        }
    }
}

impl Pass {
    /// A thread that an iterator has shown.
    pub fn thread(&mut self, record: ThreadRecord) {
        self.threads.push(record);
    }

    /// A slot that an iterator has shown. What agrees with the model is not kept.
    pub fn slot(&mut self, tables: &mut Tables, record: &OpenRecord) {
        let pass = tables.pass;
        if let Some(table) = tables.by_address.get_mut(&record.files)
            && let Some(known) = table.get(record.fd)
            && known.file == record.file
            && !known.is_outlived_by(record)
        {
            if known.inode == 0 && record.inode != 0 {
                // Copied by fork, under the eyes of nobody who knew what it was.
                let mut slot = Slot::new(record, &mut tables.names);
                (slot.since_ns, slot.is_inherited) = (known.since_ns, known.is_inherited);
                if let Some(before) = table.describe(record.fd, slot, &mut tables.names) {
                    tables.names.give_back(before.name);
                }
            }
            table.see(record.fd, pass);
            return;
        }
        let slot = Slot::new(record, &mut tables.names);
        self.slots.push((record.files, record.fd, slot));
    }
}
