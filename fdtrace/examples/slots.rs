//! Watches with slots and alarms alone, as `fdtrace watch` is to do one day: for measuring what they cost, and for
//! comparing what they tell.
//!
//! Says `Hit Ctrl-C` when it is armed. With the argument `rows`, each line that comes on stdin has it write all joined
//! rows, and how long it took to read them.

use std::{
    io::{self, BufRead as _, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use aya::maps::{MapData, RingBuf};
use fdtrace::{
    probe::{
        attach::{Session, attach},
        backend::Backend,
        load::{self, Options, Stacks},
        scope::Scope,
        slots::{self, Slots, Stamp},
    },
    stream::ring,
};
use fdtrace_common::record::RECORD_MARK;

/// As often as `fdtrace watch` looks into its ring.
const GLANCE: Duration = Duration::from_millis(50);
/// Records that have come.
static RECORDS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let backend = arguments.iter().find_map(|name| {
        let mut backends = Backend::ALL.into_iter();
        backends.find(|backend| backend.to_string() == *name)
    });
    let options = Options {
        backend,
        btf: None,
        log_level: 0,
        alarms: true,
        tables: None,
        slots: true,
        stacks: Stacks::Never,
        ring_bytes: load::SMALL_RING,
        without_hook: None,
    };
    let (mut session, ring) = attach(&options, &Scope::default())?;
    ensure!(session.backend != Backend::Census, "slots need hooks");
    for hook in &session.coverage.hooks {
        eprintln!("{} by {}", hook.function, hook.how);
    }
    for miss in &session.coverage.misses {
        eprintln!("not seen: {miss}");
    }
    eprintln!("watching with {}. Hit Ctrl-C to end.", session.backend);
    if arguments.iter().any(|argument| argument == "rows") {
        return answer(&mut session);
    }
    drain(ring)
}

/// Reads the ring until it is ended.
fn drain(mut ring: RingBuf<MapData>) -> Result<()> {
    loop {
        ring::drain(&mut ring, |_| {
            RECORDS.fetch_add(1, Ordering::Relaxed);
        });
        thread::sleep(GLANCE);
    }
}

/// Writes all rows whenever it is asked to.
fn answer(session: &mut Session) -> Result<()> {
    let shared = Slots::of(&session.ebpf)?;
    for line in io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let mut all = Vec::new();
        let mut rows = slots::joined(&mut session.ebpf, &session.targets)?;
        while rows.next(|row| all.push(*row))? {}
        let joined = start.elapsed();
        let start = Instant::now();
        let parts: Vec<_> = shared.parts().collect();
        let open: usize = parts.iter().map(|part| shared.open(part).count()).sum();
        let mapped = start.elapsed();
        let mut output = io::stdout().lock();
        for row in &all {
            let seen = &row.seen;
            if seen.kind == RECORD_MARK {
                continue;
            }
            let told = match Stamp::new(row.stamp) {
                Stamp::Unknown => "unknown".to_owned(),
                Stamp::NotBelieved => "not believed".to_owned(),
                Stamp::Known(opened) => format!("{opened:?}"),
            };
            writeln!(
                output,
                "{} {:x} fd {} file {:x}: {told}",
                seen.tgid, seen.files, seen.fd, seen.file
            )?;
        }
        writeln!(
            output,
            "{} rows in {joined:?}; {open} slots in {} parts in {mapped:?}; counters {:?}",
            all.len(),
            parts.len(),
            session.shared.counters(),
        )?;
    }
    Ok(())
}
