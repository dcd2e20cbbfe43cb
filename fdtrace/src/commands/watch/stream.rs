//! From the kernel's records to facts for the writer.

use std::time::Instant;

use anyhow::Result;
use fdtrace_common::alarm::StormKey;
use jiff::Timestamp;
use rustix::process::{Pid, test_kill_process};

use crate::{
    model::storms::{Report, Storms},
    probe::{
        attach::{self, Session},
        host, maps,
        misses::Misses,
    },
    report::{
        fact::{Exhausted, Fact, Loss, Place, Summary},
        writer::Writer,
    },
    stream::{clock, decode::Alarm},
};

/// From records to facts: everything that a running stream has.
pub(super) struct Stream {
    pub(super) session: Session,
    misses: Misses,
    once: bool,
    storms: Storms,
    writer: Writer,
    started: Instant,
    tick: u64,
    records: u64,
    reports: u64,
    failures: u64,
    /// What has been told as lost, by [`PLACES`].
    lost: [u64; PLACES.len()],
}

/// Places where something can be lost.
const PLACES: [Place; 5] = [
    Place::Ring,
    Place::Storms,
    Place::Follow,
    Place::Skipped,
    Place::Output,
];

impl Stream {
    /// Nothing read yet, nothing reported.
    pub(super) fn new(session: Session, writer: Writer, once: bool) -> Self {
        Self {
            misses: Misses::of(&session.ebpf),
            session,
            once,
            storms: Storms::default(),
            writer,
            started: Instant::now(),
            tick: attach::FIRST_TICK,
            records: 0,
            reports: 0,
            failures: 0,
            lost: [0; PLACES.len()],
        }
    }

    /// Begins the output, once everything else has been said.
    pub(super) fn start(&mut self) {
        self.writer.send(Fact::Start);
    }

    /// Was one report enough, and has it been made?
    pub(super) fn is_done(&self) -> bool {
        self.once && self.reports > 0
    }

    /// Takes the programs out of the kernel; what is left to do is to write.
    pub(super) fn detach(self) -> (Writer, Summary) {
        let summary = self.summary();
        (self.writer, summary)
    }

    /// One record of the ring. Never blocks.
    pub(super) fn take(&mut self, record: &[u8]) {
        if self.is_done() {
            return;
        }
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
    pub(super) fn on_tick(&mut self) -> Result<()> {
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

    pub(super) fn on_end(&mut self) -> Result<()> {
        self.observe(&self.storms.all())?;
        for report in self.storms.rest(clock::since_boot_ns()) {
            self.report(report);
        }
        self.tell_losses()
    }

    fn observe(&mut self, keys: &[StormKey]) -> Result<()> {
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

    pub(super) fn tell_losses(&mut self) -> Result<()> {
        let [ring, storms, follow, pending] = maps::counters(&self.session.ebpf)?;
        let skipped = self.misses.count();
        let now = [
            ring,
            storms,
            follow,
            skipped + pending,
            self.writer.dropped(),
        ];
        for ((place, now), told) in PLACES.into_iter().zip(now).zip(&mut self.lost) {
            let count = now.saturating_sub(*told);
            if count > 0 {
                *told = now;
                let loss = Loss {
                    time: Timestamp::now(),
                    place,
                    count,
                    repaired: 0,
                };
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
            lost: self.lost.iter().sum(),
            repaired: 0,
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
