//! `fdtrace trace`: every change of every slot, a line each.

use std::{collections::HashSet, io::stdout, sync::Arc, time::Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::{runtime, sync::Notify};

use super::{
    Ended, finish,
    follow::{Follow, Listener, Lost, say_what_runs},
    kernel_log_level, own, say,
};
use crate::{
    cli::Trace,
    model::{
        kind::Kind,
        names::Names,
        tables::change::{Change, Op, Sink},
    },
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
    stream::decode::Alarm,
    tracker::Handler,
};

/// Checks, attaches, shows changes until it is time to end.
pub(super) fn run(args: &Trace) -> Result<Ended> {
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
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        let follow = Follow::new(session, ring)?;
        trace(args, follow, &scope).await
    })
}

async fn trace(args: &Trace, mut follow: Follow, scope: &Scope) -> Result<Ended> {
    let ended = Arc::new(Notify::new());
    let writer_ended = Arc::clone(&ended);
    let format = if args.run.json {
        Format::Json
    } else {
        Format::Text
    };
    let writer = Writer::start(stdout(), format, move || writer_ended.notify_one())
        .context("starting the output thread")?;
    let is_census = follow.session.backend == Backend::Census;
    if is_census && (scope.follow || scope.uid.is_some() || !scope.cgroups.is_empty()) {
        bail!(
            "on the census backend, changes can be filtered by --pid and --comm only: \
             it does not tell who made them"
        );
    }
    let mut tracer = Tracer {
        kinds: args.kinds.clone(),
        ops: args.wanted_ops(),
        only: (!scope.pids.is_empty() && !scope.follow)
            .then(|| scope.pids.iter().copied().collect()),
        own: std::process::id(),
        is_census,
        comm: scope.comm.clone(),
        is_armed: false,
        writer,
        events: 0,
        failures: 0,
    };
    follow.learn(&mut tracer).await?;
    if !args.run.quiet {
        say(&format!(
            "showing changes of fds, {} fds open in {} tables now, {} backend. Hit Ctrl-C to end.",
            follow.tracker.tables.open(),
            follow.tracker.tables.all().count(),
            follow.session.backend
        ));
        say_what_runs(&follow.session);
        if is_census {
            say("not seen here: what opens and closes again between two looks, a second apart");
        }
    }
    tracer.is_armed = true;
    tracer.writer.send(Fact::StartTrace);
    let start = Instant::now();
    tokio::select! {
        outcome = follow.run(args.duration, &mut tracer) => drop(outcome?),
        () = ended.notified() => {}
    }
    let duration_s = start.elapsed().as_secs_f64();
    let summary = Summary {
        time: Timestamp::now(),
        backend: follow.session.backend,
        duration_s,
        records: follow.tracker.records,
        lost: follow.lost() + tracer.writer.dropped(),
        repaired: follow.tracker.repaired,
        exhausted: 0,
        failures: tracer.failures,
    };
    let (events, dropped) = (tracer.events, tracer.writer.dropped());
    // Detached before the rest is written.
    drop(follow);
    finish::writer(tracer.writer, summary).await?;
    if !args.run.quiet {
        let lost = if dropped == 0 {
            String::new()
        } else {
            format!(", {dropped} lines dropped: stdout is not being read fast enough")
        };
        say(&format!("{events} changes in {duration_s:.1} s{lost}"));
    }
    Ok(Ended::Done)
}

/// Hands on what is wanted.
struct Tracer {
    kinds: Vec<Kind>,
    /// Empty: all.
    ops: Vec<Op>,
    /// Only these processes; a child that inherits from one of them is told of in its parent's scope.
    only: Option<HashSet<u32>>,
    /// fdtrace itself, which nobody wants to see unless asked for.
    own: u32,
    is_census: bool,
    /// Part of the name, which no kernel program looks at on census.
    comm: Vec<u8>,
    /// Tables from before the start are no changes.
    is_armed: bool,
    writer: Writer,
    events: u64,
    failures: u64,
}

impl Tracer {
    fn send(&mut self, event: FdEvent) {
        self.events += 1;
        self.writer.send(Fact::Event(Box::new(event)));
    }
}

fn has_name(comm: &[u8], part: &[u8]) -> bool {
    part.is_empty() || comm.windows(part.len()).any(|window| window == part)
}

impl Sink for Tracer {
    fn change(&mut self, change: Change, names: &Names) {
        let is_wanted = self.is_armed
            && change.in_scope
            && (change.tgid != self.own || self.only.is_some())
            && (self.ops.is_empty() || self.ops.contains(&change.op))
            && (self.kinds.is_empty() || self.kinds.contains(&change.slot.kind))
            && self
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&change.tgid))
            && (!self.is_census || has_name(&change.comm, &self.comm));
        if is_wanted {
            self.send(FdEvent::changed(&change, names, !self.is_census));
        }
    }
}

impl Handler for Tracer {
    fn alarm(&mut self, record: &[u8]) {
        let is_wanted = self.is_armed
            && (self.ops.is_empty() || self.ops.contains(&Op::Failed))
            && self.kinds.is_empty();
        match Alarm::decode(record) {
            Ok(alarm) if is_wanted => {
                self.failures += 1;
                self.send(FdEvent::failed(alarm));
            }
            Ok(_) => {}
            Err(error) => log::warn!("{error}"),
        }
    }
}

impl Listener for Tracer {
    fn lost(&mut self, lost: Lost) {
        self.writer.send(Fact::Loss(Loss {
            time: Timestamp::now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        self.writer.send(Fact::Notice(text));
    }
}
