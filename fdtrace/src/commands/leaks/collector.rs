//! From the model to blocks of outstanding fds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};

use super::schedule::Schedule;
use crate::{
    cli::Leaks,
    commands::{
        follow::{Counts, Followed, Listener, Lost},
        replay::Late,
        troubles::Troubles,
        wanted::Wanted,
    },
    diagnose::{
        cause::Host,
        outstanding::{Block, Found, Outstanding, Rows},
    },
    enrich::{
        lookup::Looked,
        stacks::{Detail, Stacks},
    },
    model::{
        Model,
        names::Names,
        openers::Sequence,
        tables::{
            change::{Change, Op, Sink},
            slot::Slot,
            table::Table,
        },
    },
    report::{
        fact::{Fact, Loss, Summary},
        outstanding as report,
        writer::Writer,
    },
    stream::{clock::Clock, decode::Task},
    tracker::{Handler, Known, Opener},
};

/// Fds that a command has left open are kept, up to so many.
const LEFT_MAX: usize = 1 << 16;

/// What a command has left open.
struct Left {
    pid: u32,
    comm: Vec<u8>,
    slots: Vec<(u32, Slot)>,
    names: Names,
    /// The stacks of all that has been opened, and of what is left, by its number.
    opened: FxHashMap<(u64, u32, u64), Sequence>,
    openers: FxHashMap<u32, Sequence>,
    /// What it was given when it was started: fdtrace's own files.
    given: FxHashSet<(u32, u64)>,
    /// Something of it has been seen.
    is_seen: bool,
}

/// The listener that looks for what is outstanding.
pub(super) struct Collector {
    outstanding: Outstanding,
    /// Used by the thread that resolves stacks alone.
    rows: Arc<Mutex<Rows>>,
    wanted: Wanted,
    writer: Writer,
    older: Duration,
    is_folded: bool,
    schedule: Schedule,
    left: Option<Left>,
    /// Processes were given by number: they may end before the next block.
    may_end: bool,
    /// What those were found to have open last, when one of them was there.
    latest: Option<Found>,
    found: u64,
    clock: Clock,
    own: u32,
    /// What a recording tells that tells answers.
    late: Option<Late<Pending>>,
}

/// What waits for answers.
enum Pending {
    Block(Timestamp, Found),
    Other(Fact),
}

impl Collector {
    pub(super) fn new(args: &Leaks, older: Duration, writer: Writer, wanted: Wanted) -> Self {
        Self {
            outstanding: Outstanding::new(nanoseconds(older), args.top),
            rows: Arc::new(Mutex::new(Rows::new(args.top, detail(args)))),
            wanted,
            writer,
            older,
            is_folded: args.folded,
            schedule: Schedule::new(args.interval),
            left: None,
            may_end: !args.scope.pids.is_empty() && args.source.replay.is_none(),
            latest: None,
            found: 0,
            clock: Clock::System,
            own: std::process::id(),
            late: None,
        }
    }

    /// Blocks wait for the answers that the recording tells.
    pub(super) fn wait_for_answers(&mut self) {
        self.late = Some(Late::default());
    }

    /// From here on only this process counts, and when it ends.
    pub(super) fn judge_at_end_of(&mut self, pid: u32, name: &[u8], model: &Model) {
        let own = model.tables.thread(self.own);
        let own = own.and_then(|own| model.tables.table(own.files));
        let slots = own.into_iter().flat_map(Table::slots);
        self.left = Some(Left {
            pid,
            comm: name.to_vec(),
            slots: Vec::new(),
            names: Names::default(),
            opened: FxHashMap::default(),
            openers: FxHashMap::default(),
            given: slots.map(|(fd, slot)| (fd, slot.file)).collect(),
            is_seen: false,
        });
    }

    /// The tables from before are known.
    pub(super) fn begin(&mut self, model: &Model) {
        self.outstanding.begin(model);
    }

    /// Fds in the last block.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// The last block; `has_ended`: of a command that was started, and is over.
    pub(super) fn last(
        &mut self,
        known: &mut Known<'_>,
        has_ended: bool,
        troubles: &mut Troubles,
    ) -> Result<()> {
        let now_ns = self.clock.now_ns();
        let Some(left) = self.left.take() else {
            self.block(known, troubles, now_ns);
            self.release(u64::MAX, known.stacks);
            return Ok(());
        };
        if has_ended && !left.is_seen {
            bail!(
                "the command has ended between two looks, a second apart: nothing is known of it, and only \
                 the fentry and kprobe backends could tell"
            );
        }
        if !has_ended {
            let model = known.model;
            let tasks = self.tasks(model);
            let tasks: Vec<_> = tasks
                .into_iter()
                .filter(|task| task.tgid == left.pid)
                .collect();
            let found = self.outstanding.look(model, &tasks, now_ns);
            self.show(found, known.stacks);
            return Ok(());
        }
        let task = Task {
            files: 0,
            tgid: left.pid,
            tid: left.pid,
            soft: u64::MAX,
            hard: u64::MAX,
            used: None,
            comm: left.comm,
        };
        let opener_of = |fd: u32, _: &Slot| left.openers.get(&fd).copied();
        let (slots, names) = (&left.slots, &left.names);
        let found = self.outstanding.of_ended(
            &task,
            slots,
            names,
            &known.model.sockets,
            &opener_of,
            now_ns,
        );
        self.show(found, known.stacks);
        Ok(())
    }

    fn block(&mut self, known: &mut Known<'_>, troubles: &mut Troubles, now_ns: u64) {
        let (found, _) = self.look(known.model, troubles, now_ns);
        self.show(found, known.stacks);
    }

    /// What is outstanding now, and in how many tables that was looked for.
    fn look(&self, model: &Model, troubles: &mut Troubles, now_ns: u64) -> (Found, usize) {
        let tasks = self.tasks(model);
        let tasks = self.wanted.choose(tasks, &model.tables, troubles);
        (self.outstanding.look(model, &tasks, now_ns), tasks.len())
    }

    /// The last block where all processes have ended: what they had open a second earlier at most.
    pub(super) fn last_of_ended(&mut self, known: &mut Known<'_>) {
        if let Some(found) = self.latest.take() {
            self.show(found, known.stacks);
        }
    }

    fn show(&mut self, found: Found, stacks: &mut Stacks) {
        let time = self.clock.at(found.now_ns);
        self.found = found.fds;
        match &mut self.late {
            Some(late) => late.push(Pending::Block(time, found), self.clock.now_ns()),
            None => self.send(time, found, stacks),
        }
    }

    /// What has waited for these answers is written.
    fn release(&mut self, until_ns: u64, stacks: &mut Stacks) {
        while let Some(ready) = self.late.as_mut().and_then(|late| late.ready(until_ns)) {
            match ready {
                Pending::Block(time, found) => self.send(time, found, stacks),
                Pending::Other(fact) => self.writer.send(fact),
            }
        }
    }

    /// A fact that needs no answers keeps its place among blocks that do.
    fn tell(&mut self, fact: Fact) {
        match &mut self.late {
            Some(late) => late.push(Pending::Other(fact), self.clock.now_ns()),
            None => self.writer.send(fact),
        }
    }

    fn send(&mut self, time: Timestamp, found: Found, stacks: &mut Stacks) {
        let rows = Arc::clone(&self.rows);
        let awaited = stacks.answer(move |resolver| {
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.block(found, |sequence| resolver.stack(sequence))
        });
        self.writer
            .send(Fact::Outstanding(Box::new(report::Outstanding {
                time,
                block: Block::default(),
                awaited: Some(awaited),
                older_s: self.older.as_secs_f64(),
                is_folded: self.is_folded,
                owners: Vec::new(),
            })));
    }

    /// The tables, each with a process that uses it.
    fn tasks(&self, model: &Model) -> Vec<Task> {
        let used = model.tables.all().filter(|(_, table)| table.threads > 0);
        let tasks = used.filter_map(|(files, table)| {
            let limit = model.limits.of(table.tgid);
            let leader = model.tables.thread(table.tgid);
            // A leader may have exited, and its threads live on.
            let another = || {
                let mut threads = model.tables.all_threads().map(|(_, thread)| thread);
                threads.find(|thread| (thread.files, thread.tgid) == (files, table.tgid))
            };
            let comm = leader
                .or_else(another)
                .map(|thread| until_nul(&thread.comm).to_vec())
                .or_else(|| Some(limit?.comm.clone()))?;
            Some(Task {
                files,
                tgid: table.tgid,
                tid: table.tgid,
                soft: limit.map_or(u64::MAX, |task| task.soft),
                hard: limit.map_or(u64::MAX, |task| task.hard),
                used: limit.and_then(|task| task.used),
                comm,
            })
        });
        let mut tasks: Vec<_> = tasks.filter(|task| task.tgid != self.own).collect();
        tasks.sort_unstable_by_key(|task| (task.tgid, task.files));
        tasks
    }

    /// The writer, and the sum of it all.
    pub(super) fn into_summary(self, followed: Followed) -> (Writer, Summary) {
        let summary = Summary {
            time: self.clock.now(),
            backend: followed.backend,
            duration_s: followed.duration_s,
            records: followed.records,
            lost: followed.lost + self.writer.dropped(),
            repaired: followed.repaired,
            exhausted: 0,
            failures: 0,
            programs: followed.programs,
        };
        (self.writer, summary)
    }
}

/// Rows are those that whoever reads the output can tell apart.
fn detail(args: &Leaks) -> Detail {
    if args.run.json || args.folded {
        Detail::Full
    } else {
        Detail::Shown
    }
}

fn until_nul(comm: &[u8; 16]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Sink for Collector {
    /// Of what a command leaves open when it ends, only its changes tell.
    fn change(&mut self, change: Change, names: &Names) {
        let Some(left) = &mut self.left else {
            return;
        };
        if change.tgid != left.pid {
            return;
        }
        left.is_seen = true;
        if change.op != Op::CloseExit || left.given.contains(&(change.fd, change.slot.file)) {
            return;
        }
        let now_ns = self.clock.now_ns();
        if self.outstanding.counts(&change.slot, now_ns) && left.slots.len() < LEFT_MAX {
            let name = left.names.take(names.get(change.slot.name));
            left.slots.push((
                change.fd,
                Slot {
                    name,
                    ..change.slot
                },
            ));
            let place = (change.files, change.fd, change.slot.file);
            if let Some(sequence) = left.opened.get(&place) {
                left.openers.insert(change.fd, *sequence);
            }
        }
    }
}

impl Handler for Collector {
    fn alarm(&mut self, _: &[u8], _: &mut Known<'_>) {}

    fn opener(&mut self, opener: &Opener, _: &mut Stacks) {
        if let Some(left) = self
            .left
            .as_mut()
            .filter(|left| left.opened.len() < LEFT_MAX)
        {
            let place = (opener.files, opener.fd, opener.file);
            left.opened.insert(place, opener.sequence);
        }
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

impl Listener for Collector {
    fn at(&mut self, clock: Clock, _: Host) {
        self.clock = clock;
    }

    fn armed(&mut self) {
        self.schedule.begin(self.clock.now_ns());
    }

    fn lost(&mut self, lost: Lost) {
        self.tell(Fact::Loss(Loss {
            time: self.clock.now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        self.tell(Fact::Notice(text));
    }

    fn looked(&mut self, looked: Looked) {
        // Ahead of all that waits for it.
        self.writer.send(Fact::Looked(looked));
    }

    fn answered(&mut self, until_ns: u64, known: &mut Known<'_>) {
        self.release(until_ns, known.stacks);
    }

    fn second(&mut self, _: &mut dyn Counts, known: &mut Known<'_>, troubles: &mut Troubles) {
        let now_ns = self.clock.now_ns();
        self.begin(known.model);
        if self.left.is_none() && !self.is_folded && self.schedule.is_due(now_ns) {
            self.block(known, troubles, now_ns);
        }
        if self.may_end
            && let (found, 1..) = self.look(known.model, troubles, now_ns)
        {
            self.latest = Some(found);
        }
    }

    fn is_done(&self) -> bool {
        self.writer.has_ended()
    }
}
