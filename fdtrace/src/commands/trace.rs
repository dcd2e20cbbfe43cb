//! `fdtrace trace`: every change of every slot, a line each.

mod held;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use fdtrace_common::stack::FAILING;
use tokio::{runtime, sync::Notify};

use self::held::Held;
use super::{
    Ended, finish,
    follow::{Follow, Followed, Listener, Lost},
    kernel_log_level, own,
    replay::{Choice, Chosen, Replay},
    say, stdout,
    wanted::has_name,
    what_runs::say_what_runs,
};
use crate::{
    cli::{StacksChoice, Trace},
    engine::{
        change::{Change, Op, Sink},
        opener::{Sequence, Slot},
    },
    enrich::stacks::{AwaitedStack, Stack, Stacks, reader::is_reader},
    ground::{host::Host, kind::Kind},
    probe::{
        attach,
        backend::Backend,
        load, requirements,
        scope::{Request, Scope},
    },
    report::{
        event::FdEvent,
        fact::{Fact, Loss, Summary},
        writer::{Format, Writer},
    },
    stream::{clock::Clock, decode::Alarm},
    tracker::{Handler, Known, Opener},
};

/// Checks, attaches, shows changes until it is time to end.
pub(super) fn run(args: &Trace) -> Result<Ended> {
    if let Some(path) = &args.source.replay {
        return replay(args, path);
    }
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let scope = Scope::new(&request)?;
    own::raise_limit();
    own::keep_up();
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: true,
        tables: Some(load::Tables { details: true }),
        stacks: args.stacks.into(),
        slots: false,
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        let follow = Follow::new(session, ring, &args.run)?;
        trace(args, follow, &scope).await
    })
}

async fn trace(args: &Trace, mut follow: Follow, scope: &Scope) -> Result<Ended> {
    let ended = Arc::new(Notify::new());
    let writer_ended = Arc::clone(&ended);
    let format = Format::of(args.run.json, args.run.color);
    let writer = Writer::start(stdout::waiting(), format, None, move || {
        writer_ended.notify_one();
    })
    .context("starting the output thread")?;
    let is_census = follow.session.backend == Backend::Census;
    if is_census && (scope.follow || scope.uid.is_some() || !scope.cgroups.is_empty()) {
        bail!(
            "on the census backend, changes can be filtered by --pid and --comm only: \
             it does not tell who made them"
        );
    }
    let mut tracer = Tracer::new(args, writer, is_census);
    tracer.only =
        (!scope.pids.is_empty() && !scope.follow).then(|| scope.pids.iter().copied().collect());
    tracer.own = Some(std::process::id());
    tracer.comm.clone_from(&scope.comm);
    follow.learn(&mut tracer).await?;
    if !args.run.quiet {
        let (fds, tables) = follow.engine().size();
        say(&format!(
            "showing changes of fds, {fds} fds open in {tables} tables now, {} backend. Hit Ctrl-C to end.",
            follow.session.backend
        ));
        say_what_runs(&follow.session, &args.run);
        if is_census {
            say("not seen here: what opens and closes again between two looks, a second apart");
        }
    }
    tracer.armed();
    let start = Instant::now();
    follow.run(args.duration, &ended, &mut tracer).await;
    follow.drain(&mut tracer);
    let followed = follow.followed(start.elapsed());
    let (writer, events, summary) = tracer.into_summary(followed);
    let dropped = writer.dropped();
    // Detached before the rest is written.
    drop(follow);
    finish::writer(writer, summary.clone()).await?;
    say_sum(args, events, dropped, &summary);
    Ok(Ended::Done)
}

/// The same from a recording.
fn replay(args: &Trace, path: &Path) -> Result<Ended> {
    let choice = Choice::new(&args.scope)?;
    let mut replay = Replay::open(path, args.stacks)?;
    if !args.run.quiet {
        replay.banner();
    }
    let writer = Writer::patient(
        stdout::waiting(),
        Format::of(args.run.json, args.run.color),
        None,
    )
    .context("starting the output thread")?;
    let is_census = replay.start.backend == Backend::Census;
    let mut tracer = Tracer::new(args, writer, is_census);
    tracer.own = Some(replay.start.pid);
    // They may come long after their changes.
    tracer.held = (args.stacks != StacksChoice::Never).then(Held::default);
    let mut chosen = Chosen {
        inner: &mut tracer,
        choice,
    };
    let outcome = replay.run(args.duration, &mut chosen);
    let (writer, events, summary) = tracer.into_summary(replay.followed());
    finish::replayed(writer, summary.clone())?;
    outcome?;
    say_sum(args, events, 0, &summary);
    Ok(Ended::Done)
}

fn say_sum(args: &Trace, events: u64, dropped: u64, summary: &Summary) {
    if args.run.quiet {
        return;
    }
    let lost = if dropped == 0 {
        String::new()
    } else {
        format!(", {dropped} lines dropped: stdout is not being read fast enough")
    };
    say(&format!(
        "{events} changes in {:.1} s{lost}",
        summary.duration_s
    ));
}

/// Stacks that wait for the change that they belong to: it comes right behind them.
const OPENERS: usize = 4_096;

/// The stack of a change to come.
enum Stacked {
    /// Live.
    Awaited(AwaitedStack),
    /// Of a recording: its number.
    Numbered(Sequence),
}

/// Hands on what is wanted.
struct Tracer {
    kinds: Vec<Kind>,
    /// Empty: all.
    ops: Vec<Op>,
    /// Only these processes; a child that inherits from one of them is told of in its parent's scope.
    only: Option<HashSet<u32>>,
    /// fdtrace itself, which nobody wants to see unless asked for.
    own: Option<u32>,
    is_census: bool,
    /// Part of the name, which no kernel program looks at on census.
    comm: Vec<u8>,
    /// Stacks of changes to come, by table, number and file.
    openers: HashMap<Slot, Stacked>,
    /// Of a recording, where stacks are shown.
    held: Option<Held>,
    /// Tables from before the start are no changes.
    is_armed: bool,
    writer: Writer,
    events: u64,
    failures: u64,
    clock: Clock,
}

impl Tracer {
    fn new(args: &Trace, writer: Writer, is_census: bool) -> Self {
        Self {
            kinds: args.kinds.clone(),
            ops: args.wanted_ops(),
            only: None,
            own: None,
            is_census,
            comm: Vec::new(),
            openers: HashMap::new(),
            held: None,
            is_armed: false,
            writer,
            events: 0,
            failures: 0,
            clock: Clock::System,
        }
    }

    /// The writer, how many changes were shown, and the sum of it all.
    fn into_summary(mut self, followed: Followed) -> (Writer, u64, Summary) {
        while let Some(fact) = self.held.as_mut().and_then(Held::next) {
            self.writer.send(fact);
        }
        let summary = Summary {
            time: self.clock.now(),
            backend: followed.backend,
            duration_s: followed.duration_s,
            records: followed.records,
            lost: followed.lost + self.writer.dropped(),
            repaired: followed.repaired,
            exhausted: 0,
            failures: self.failures,
            programs: followed.programs,
        };
        (self.writer, self.events, summary)
    }

    /// An event, and the number of the stack that a recording has of it.
    fn tell(&mut self, event: FdEvent, number: Option<Sequence>) {
        self.events += 1;
        self.send(Fact::Event(Box::new(event)), number);
    }

    fn send(&mut self, fact: Fact, number: Option<Sequence>) {
        let now_ns = self.clock.now_ns();
        match &mut self.held {
            Some(held) => {
                held.push(fact, number, now_ns);
                self.release();
            }
            None => self.writer.send(fact),
        }
    }

    /// Sends what has waited long enough.
    fn release(&mut self) {
        let now_ns = self.clock.now_ns();
        while let Some(fact) = self.held.as_mut().and_then(|held| held.ready(now_ns)) {
            self.writer.send(fact);
        }
    }

    fn expect(&mut self, slot: Slot, stack: Stacked) {
        if self.openers.len() >= OPENERS {
            // Their changes have been lost.
            self.openers.clear();
        }
        self.openers.insert(slot, stack);
    }

    /// The stack of what has come, or its number in a recording.
    fn expected(&mut self, slot: Slot) -> (Option<AwaitedStack>, Option<Sequence>) {
        match self.openers.remove(&slot) {
            Some(Stacked::Awaited(awaited)) => (Some(awaited), None),
            Some(Stacked::Numbered(number)) => (None, Some(number)),
            None => (None, None),
        }
    }
}

impl Sink for Tracer {
    fn change(&mut self, change: Change, name: &[u8]) {
        let is_wanted = self.is_armed
            && change.in_scope
            && (Some(change.tgid) != self.own && !is_reader(change.tgid) || self.only.is_some())
            && (self.ops.is_empty() || self.ops.contains(&change.op))
            && (self.kinds.is_empty() || self.kinds.contains(&change.open.kind))
            && self
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&change.tgid))
            && (!self.is_census
                || has_name(&change.comm, &self.comm)
                || has_name(&change.process, &self.comm));
        let slot = (change.files, change.open.fd, change.open.file);
        let (awaited, number) = self.expected(slot);
        if is_wanted {
            let event = FdEvent::changed(&change, name, !self.is_census, self.clock);
            self.tell(FdEvent { awaited, ..event }, number);
        }
    }
}

impl Handler for Tracer {
    fn alarm(&mut self, record: &[u8], _: &mut Known<'_>) {
        let is_wanted = self.is_armed
            && (self.ops.is_empty() || self.ops.contains(&Op::Failed))
            && self.kinds.is_empty();
        match Alarm::decode(record) {
            Ok(alarm) if is_wanted => {
                self.failures += 1;
                let slot = (alarm.key.files, FAILING | alarm.tid, 0);
                let (awaited, number) = self.expected(slot);
                let event = FdEvent::failed(alarm, self.clock);
                self.tell(FdEvent { awaited, ..event }, number);
            }
            Ok(_) => {}
            Err(error) => log::warn!("{error}"),
        }
    }

    fn opener(&mut self, opener: &Opener, stacks: &mut Stacks) {
        let slot = (opener.files, opener.fd, opener.file);
        self.expect(slot, Stacked::Awaited(stacks.later(opener.sequence)));
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

impl Listener for Tracer {
    fn at(&mut self, clock: Clock, _: Host) {
        self.clock = clock;
        self.release();
    }

    fn taken(&mut self, slot: Slot, number: Sequence) {
        self.expect(slot, Stacked::Numbered(number));
    }

    fn resolved(&mut self, numbers: &[Sequence], stack: &Arc<Stack>) {
        if let Some(held) = &mut self.held {
            held.resolved(numbers, stack);
            self.release();
        }
    }

    fn armed(&mut self) {
        if !self.is_armed {
            self.is_armed = true;
            self.send(Fact::StartTrace, None);
        }
    }

    fn is_done(&self) -> bool {
        self.writer.has_ended()
    }

    fn lost(&mut self, lost: Lost) {
        let fact = Fact::Loss(Loss {
            time: self.clock.now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        });
        self.send(fact, None);
    }

    fn notice(&mut self, text: String) {
        self.send(Fact::Notice(text), None);
    }
}
