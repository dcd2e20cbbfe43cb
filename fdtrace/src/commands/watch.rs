//! `fdtrace watch`: every exhaustion as it happens.

use std::{
    io::{IsTerminal, stderr, stdout},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use jiff::Timestamp;
use log::debug;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit, test_kill_process};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Ended, kernel_log_level, say};
use crate::{
    cli::Watch,
    model::{
        fullest::{self, Fullness},
        storms::{Report, Storms},
    },
    probe::{
        attach::{self, Session},
        census, host, maps, requirements,
        scope::{Request, Scope},
    },
    report::{
        fact::{Exhausted, Fact, Loss, Summary},
        sanitize::printable,
        text,
        writer::{Format, Writer},
    },
    stream::{clock, decode::Alarm, ring::Ring},
};

/// Tables that the banner shows.
const FULLEST: usize = 5;
/// The kernel's clock for storms, see `Control::tick`.
const TICK: Duration = Duration::from_secs(1);

/// Checks, attaches, streams.
pub(super) fn run(args: &Watch) -> Result<Ended> {
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let scope = Scope::new(&request)?;
    raise_own_limit();
    let options = attach::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
    };
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .context("starting the runtime")?
        .block_on(stream(args, session, ring))
}

/// fdtrace must not run out of fds itself while it reports that somebody else did.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!("raising the own fd limit: {error}");
    }
}

/// Says what runs, what is missing, and on a terminal which tables are the fullest now.
fn banner(args: &Watch, session: &mut Session) -> Result<()> {
    let whom = if args.scope == crate::cli::ScopeArgs::default() {
        "all processes"
    } else {
        "filtered"
    };
    say(&format!(
        "watching fd exhaustion, {whom}, {} backend. Hit Ctrl-C to end.",
        session.backend
    ));
    for rejected in &session.rejected {
        say(&format!("not {}: {}", rejected.backend, rejected.reason));
    }
    for miss in &session.coverage.misses {
        say(&format!("not seen here: {miss}"));
    }
    if stderr().is_terminal() {
        let tasks = census::read(&mut session.ebpf, &session.btf)?;
        say("fullest tables now:");
        for table in fullest::fullest(&tasks, FULLEST) {
            say(&full_line(&table));
        }
    }
    Ok(())
}

fn full_line(table: &Fullness) -> String {
    format!(
        "{:>9} {:<15} {:>7} of {:>7} {:>4} %",
        table.tgid,
        printable(&table.comm),
        table.used,
        text::limit(table.soft),
        table.percent(),
    )
}

/// Everything that a running stream has.
struct Stream {
    session: Session,
    storms: Storms,
    writer: Writer,
    started: Instant,
    tick: u64,
    records: u64,
    reports: u64,
    failures: u64,
    lost: Losses,
}

/// What has been told as lost.
#[derive(Default)]
struct Losses {
    told: [u64; 4],
}

/// Places where something can be lost, by kernel counter; the last is the writer's.
const PLACES: [&str; 4] = ["ring", "storms", "follow", "output"];

/// Reads, reports, until it is time to end.
async fn stream(args: &Watch, mut session: Session, ring: RingBuf<MapData>) -> Result<Ended> {
    if kernel_log_level(&args.run) > 0 {
        spawn_logger(EbpfLogger::init(&mut session.ebpf)?)?;
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
    let mut stream = Stream {
        session,
        storms: Storms::default(),
        writer,
        started: Instant::now(),
        tick: attach::FIRST_TICK,
        records: 0,
        reports: 0,
        failures: 0,
        lost: Losses::default(),
    };
    // Once, while there are fds: reading per-CPU maps opens a file the first time.
    stream.tell_losses()?;
    // Last of all: whoever waits for it may do as it likes from here on, to fdtrace too.
    if !args.run.quiet {
        banner(args, &mut stream.session)?;
    }
    loop {
        tokio::select! {
            outcome = ring.wait(|record| stream.take(record)) => outcome?,
            _ = ticks.tick() => stream.on_tick()?,
            () = &mut deadline => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = ended.notified() => break,
        }
        if args.once && stream.reports > 0 {
            break;
        }
    }
    let found = stream.reports > 0;
    if !(args.once && found) {
        ring.drain(|record| stream.take(record));
        stream.on_end()?;
    }
    let summary = stream.summary();
    let writer = stream.writer;
    drop(stream.session);
    let finish = tokio::task::spawn_blocking({
        let summary = Fact::Summary(summary.clone());
        move || writer.finish(summary)
    });
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

/// Prints the kernel programs' log lines.
#[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
fn spawn_logger(logger: EbpfLogger<&'static dyn log::Log>) -> Result<()> {
    // SAFETY: the logger owns its map's descriptor and neither closes nor swaps it.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger.context("waiting for log lines")?;
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

impl Stream {
    /// One record of the ring. Never blocks.
    fn take(&mut self, record: &[u8]) {
        self.records += 1;
        match Alarm::decode(record) {
            Ok(alarm) => {
                if let Some(report) = self.storms.apply(alarm) {
                    self.report(report);
                }
            }
            Err(error) => log::warn!("{error}"),
        }
    }

    fn report(&mut self, report: Report) {
        self.reports += 1;
        self.failures += 1 + report.repeats;
        let exhausted = Exhausted::new(report, host::files);
        self.writer.send(Fact::Exhausted(Box::new(exhausted)));
    }

    /// Once a second: lets the kernel tell again, tells what was held back, looks for losses.
    fn on_tick(&mut self) -> Result<()> {
        self.tick += 1;
        maps::arm(&mut self.session.ebpf, self.tick)?;
        let now_ns = clock::since_boot_ns();
        self.observe(&self.storms.active(now_ns))?;
        for report in self.storms.due(now_ns) {
            self.report(report);
        }
        self.forget_ended(now_ns)?;
        self.tell_losses()
    }

    fn on_end(&mut self) -> Result<()> {
        self.observe(&self.storms.all())?;
        for report in self.storms.rest(clock::since_boot_ns()) {
            self.report(report);
        }
        self.tell_losses()
    }

    fn observe(&mut self, keys: &[fdtrace_common::alarm::StormKey]) -> Result<()> {
        for key in keys {
            let counted = maps::storm(&self.session.ebpf, key)?;
            self.storms.observe(key, counted);
        }
        Ok(())
    }

    /// Makes room for others where a process is gone.
    fn forget_ended(&mut self, now_ns: u64) -> Result<()> {
        for key in self.storms.stale(now_ns) {
            if has_ended(key.tgid) {
                self.observe(&[key])?;
                maps::forget_storm(&mut self.session.ebpf, &key)?;
                if let Some(report) = self.storms.forget(&key, now_ns) {
                    self.report(report);
                }
            }
        }
        Ok(())
    }

    fn tell_losses(&mut self) -> Result<()> {
        let [ring, storms, follow] = maps::counters(&self.session.ebpf)?;
        let now = [ring, storms, follow, self.writer.dropped()];
        for ((place, now), told) in PLACES.into_iter().zip(now).zip(&mut self.lost.told) {
            let count = now.saturating_sub(*told);
            if count > 0 {
                *told = now;
                let loss = Loss {
                    time: Timestamp::now(),
                    place,
                    count,
                };
                say(&text::loss(&loss));
                self.writer.send(Fact::Loss(loss));
            }
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        Summary {
            time: Timestamp::now(),
            backend: self.session.backend,
            duration_s: self.started.elapsed().as_secs_f64(),
            records: self.records,
            lost: self.lost.told.iter().sum(),
            exhausted: self.reports,
            failures: self.failures,
        }
    }
}

/// Is no process left of that number?
fn has_ended(tgid: u32) -> bool {
    let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}
