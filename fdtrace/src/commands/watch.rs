//! `fdtrace watch`: every exhaustion as it happens.

mod banner;
mod kernel_log;
mod stream;

use std::{io::stdout, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

use self::stream::Stream;
use super::{Ended, kernel_log_level, own, say};
use crate::{
    cli::Watch,
    probe::{
        attach::{self, Session},
        load, requirements,
        scope::{Request, Scope},
    },
    report::{
        fact::Fact,
        text,
        writer::{Format, Writer},
    },
    stream::ring::Ring,
};

/// The kernel's clock for storms, see `Control::tick`.
const TICK: Duration = Duration::from_secs(1);

/// Checks, attaches, streams.
pub(super) fn run(args: &Watch) -> Result<Ended> {
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let scope = Scope::new(&request)?;
    own::raise_limit();
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: true,
        tables: None,
        ring_bytes: load::SMALL_RING,
        without_hook: None,
    };
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .context("starting the runtime")?
        .block_on(watch(args, session, ring))
}

/// Reads, reports, until it is time to end.
async fn watch(args: &Watch, mut session: Session, ring: RingBuf<MapData>) -> Result<Ended> {
    if kernel_log_level(&args.run) > 0 {
        kernel_log::start(&mut session.ebpf)?;
    }
    let mut ring = Ring::new(ring)?;
    let ended = Arc::new(Notify::new());
    let writer_ended = Arc::clone(&ended);
    let format = if args.run.json {
        Format::Json
    } else {
        Format::Text
    };
    let writer = Writer::start(stdout(), format, move || writer_ended.notify_one())
        .context("starting the output thread")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = sleep(args.duration.unwrap_or(Duration::MAX));
    tokio::pin!(deadline);
    let mut stream = Stream::new(session, writer, args.once);
    // Once, while there are fds: reading per-CPU maps opens a file the first time.
    stream.tell_losses()?;
    // Last of all: whoever waits for it may do as it likes from here on, to fdtrace too.
    if !args.run.quiet {
        banner::show(args, &mut stream.session)?;
    }
    stream.start();
    loop {
        tokio::select! {
            outcome = ring.wait(|record| stream.take(record)) => outcome?,
            _ = ticks.tick() => stream.on_tick()?,
            () = &mut deadline => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = ended.notified() => break,
        }
        if stream.is_done() {
            break;
        }
    }
    if !stream.is_done() {
        ring.drain(|record| stream.take(record));
        stream.on_end()?;
    }
    let (writer, summary) = stream.detach();
    let found = summary.exhausted > 0;
    let last = Fact::Summary(summary.clone());
    let finish = spawn_blocking(move || writer.finish(last));
    tokio::select! {
        outcome = finish => outcome.context("ending the output thread")?.context("writing to stdout")?,
        // Whoever reads has stopped reading; a second Ctrl-C does not wait for it.
        _ = interrupt.recv() => std::process::exit(0),
        _ = terminate.recv() => std::process::exit(0),
    }
    if !args.run.quiet {
        say(&text::summary(&summary));
    }
    Ok(if args.once && !found {
        Ended::NothingFound
    } else {
        Ended::Done
    })
}
