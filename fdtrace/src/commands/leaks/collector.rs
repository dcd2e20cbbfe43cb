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
    diagnose::outstanding::{Block, Found, Outstanding, Rows},
    engine::{
        Engine,
        change::{Change, Op, Sink},
        opener::{Sequence, Slot},
        table::{Entry, OpenFd, Table, TableBuilder, telling_name},
    },
    enrich::{
        lookup::Looked,
        stacks::{Detail, Stacks, reader::is_reader},
    },
    ground::{host::Host, task::Task},
    report::{
        fact::{Fact, Loss, Summary},
        outstanding as report,
        writer::Writer,
    },
    stream::clock::Clock,
    tracker::{Handler, Known, Opener},
};

/// Fds that a command has left open are kept, up to so many.
const LEFT_MAX: usize = 1 << 16;

/// What a command has left open.
struct Left {
    pid: u32,
    comm: Vec<u8>,
    /// Each with its name.
    fds: Vec<(Entry, Vec<u8>)>,
    /// The stacks of all that has been opened.
    opened: FxHashMap<Slot, Sequence>,
    /// What it was given when it was started: fdtrace's own files.
    given: FxHashSet<(u32, u64)>,
    /// Something of it has been seen.
    is_seen: bool,
}

impl Left {
    /// All of it as a table; `engine` knows where sockets lead to.
    fn table(&self, engine: &dyn Engine) -> Table {
        let mut table = TableBuilder::with_capacity(self.fds.len());
        for (entry, name) in &self.fds {
            let OpenFd { kind, inode, .. } = entry.open;
            let end = kind.has_end().then(|| engine.socket(inode).end).flatten();
            table.push(*entry, end.or_else(|| telling_name(kind, name)));
        }
        table.build()
    }
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
    top: usize,
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
            top: args.top,
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
    pub(super) fn judge_at_end_of(&mut self, pid: u32, name: &[u8], engine: &dyn Engine) {
        let own = engine.thread(self.own).into_iter();
        let own = own.flat_map(|own| engine.fds(own.files, 0));
        self.left = Some(Left {
            pid,
            comm: name.to_vec(),
            fds: Vec::new(),
            opened: FxHashMap::default(),
            given: own.map(|open| (open.fd, open.file)).collect(),
            is_seen: false,
        });
    }

    /// The tables from before are known.
    pub(super) fn begin(&mut self, engine: &dyn Engine) {
        self.outstanding.begin(engine);
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
            let tasks = self.tasks(known.engine);
            let tasks: Vec<_> = tasks
                .into_iter()
                .filter(|task| task.tgid == left.pid)
                .collect();
            let found = self.outstanding.look(known.engine, &tasks, now_ns);
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
            comm: left.comm.clone(),
        };
        let table = left.table(known.engine);
        let found = self.outstanding.of_ended(&task, &table, now_ns);
        self.show(found, known.stacks);
        Ok(())
    }

    fn block(&mut self, known: &mut Known<'_>, troubles: &mut Troubles, now_ns: u64) {
        let (found, _) = self.look(known.engine, troubles, now_ns);
        self.show(found, known.stacks);
    }

    /// What is outstanding now, and in how many tables that was looked for.
    fn look(&self, engine: &dyn Engine, troubles: &mut Troubles, now_ns: u64) -> (Found, usize) {
        let tasks = self.tasks(engine);
        let tasks = self.wanted.choose(tasks, engine, troubles);
        (self.outstanding.look(engine, &tasks, now_ns), tasks.len())
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
        let found = Arc::new(found);
        let asked = Arc::clone(&found);
        let awaited = stacks.answer_in_time(move |resolver| {
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.block(&asked, |sequence| resolver.stack(sequence))
        });
        self.writer
            .send(Fact::Outstanding(Box::new(report::Outstanding {
                time,
                block: Block::default(),
                awaited: Some(awaited),
                found: Some((found, self.top)),
                older_s: self.older.as_secs_f64(),
                is_folded: self.is_folded,
                owners: Vec::new(),
            })));
    }

    /// The tables, each with a process that uses it.
    fn tasks(&self, engine: &dyn Engine) -> Vec<Task> {
        let used = engine.tables().into_iter().filter(|table| table.is_used);
        let tasks = used.filter_map(|table| {
            let (files, tgid) = (table.files, table.tgid);
            let limit = engine.limit_of(tgid);
            // A leader may have exited, and its threads live on.
            let another = || {
                let mut threads = engine.threads();
                threads.find(|thread| (thread.files, thread.tgid) == (files, tgid))
            };
            let comm = engine
                .thread(tgid)
                .or_else(another)
                .map(|thread| until_nul(&thread.comm).to_vec())
                .or_else(|| Some(limit?.comm.clone()))?;
            Some(Task {
                files,
                tgid,
                tid: tgid,
                soft: limit.map_or(u64::MAX, |task| task.soft),
                hard: limit.map_or(u64::MAX, |task| task.hard),
                used: limit.and_then(|task| task.used),
                comm,
            })
        });
        let mut tasks: Vec<_> = tasks
            .filter(|task| task.tgid != self.own && !is_reader(task.tgid))
            .collect();
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
    fn change(&mut self, change: Change, name: &[u8]) {
        let Some(left) = &mut self.left else {
            return;
        };
        if change.tgid != left.pid {
            return;
        }
        left.is_seen = true;
        let open = change.open;
        if change.op != Op::CloseExit || left.given.contains(&(open.fd, open.file)) {
            return;
        }
        let now_ns = self.clock.now_ns();
        if self.outstanding.counts(&open, now_ns) && left.fds.len() < LEFT_MAX {
            let place = (change.files, open.fd, open.file);
            let entry = Entry {
                open,
                opener: left.opened.get(&place).copied(),
                ..Entry::default()
            };
            left.fds.push((entry, name.to_vec()));
        }
    }
}

impl Handler for Collector {
    fn alarm(&mut self, _: &[u8], _: &mut Known<'_>) {}

    fn opener(&mut self, opener: &Opener, _: &mut Stacks) {
        if let Some(left) = self
            .left
            .as_mut()
            .filter(|left| left.opened.len() < LEFT_MAX && opener.file != 0)
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
        self.begin(known.engine);
        if self.left.is_none() && !self.is_folded && self.schedule.is_due(now_ns) {
            self.block(known, troubles, now_ns);
        }
        if self.may_end
            && let (found, 1..) = self.look(known.engine, troubles, now_ns)
        {
            self.latest = Some(found);
        }
    }

    fn is_done(&self) -> bool {
        self.writer.has_ended()
    }
}
