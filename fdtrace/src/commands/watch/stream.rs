//! From the kernel's records of failures to facts for the writer.

use std::time::Duration;

use anyhow::Result;
use fdtrace_common::alarm::StormKey;
use jiff::Timestamp;
use rustix::process::{Pid, test_kill_process};

use crate::{
    commands::follow::{Follow, Listener, Lost},
    model::{
        names::Names,
        storms::{Report, Storms},
        tables::change::{Change, Sink},
    },
    probe::{attach::Session, host, maps},
    report::{
        fact::{Exhausted, Fact, Loss, Place, Summary},
        writer::Writer,
    },
    stream::{clock, decode::Alarm},
    tracker::Handler,
};

/// Facts that may wait for the stream's beginning.
const EARLY_MAX: usize = 1_024;

/// From records to facts: everything that a running stream has.
pub(super) struct Stream {
    once: bool,
    storms: Storms,
    writer: Writer,
    /// What happened before everything else was said; `None` from then on.
    early: Option<Vec<Fact>>,
    reports: u64,
    failures: u64,
    /// Facts that found no room, as far as they have been told.
    dropped: u64,
}

impl Stream {
    /// Nothing read yet, nothing reported.
    pub(super) fn new(writer: Writer, once: bool) -> Self {
        Self {
            once,
            storms: Storms::default(),
            writer,
            early: Some(Vec::new()),
            reports: 0,
            failures: 0,
            dropped: 0,
        }
    }

    /// Begins the output, once everything else has been said.
    pub(super) fn start(&mut self) {
        self.writer.send(Fact::Start);
        for fact in self.early.take().into_iter().flatten() {
            self.writer.send(fact);
        }
    }

    fn send(&mut self, fact: Fact) {
        match &mut self.early {
            Some(early) if early.len() < EARLY_MAX => early.push(fact),
            _ => self.writer.send(fact),
        }
    }

    fn report(&mut self, report: Report) {
        self.reports += 1;
        self.failures += 1 + report.repeats;
        let exhausted = Exhausted::new(report, host::files);
        self.send(Fact::Exhausted(Box::new(exhausted)));
    }

    fn observe(&mut self, session: &Session, keys: &[StormKey]) -> Result<()> {
        for key in keys {
            let counted = maps::storm(&session.ebpf, key)?;
            self.storms.observe(key, counted);
        }
        Ok(())
    }

    /// Makes room for others where a process is gone.
    fn forget_ended(&mut self, session: &mut Session, now_ns: u64) -> Result<()> {
        for key in self.storms.stale(now_ns) {
            if has_ended(key.tgid) {
                self.observe(session, &[key])?;
                maps::forget_storm(&mut session.ebpf, &key)?;
                if let Some(report) = self.storms.forget(&key, now_ns) {
                    self.report(report);
                }
            }
        }
        Ok(())
    }

    fn tell_dropped(&mut self) {
        let count = self.writer.dropped() - self.dropped;
        if count > 0 {
            self.dropped += count;
            self.send(Fact::Loss(Loss {
                time: Timestamp::now(),
                place: Place::Output,
                count,
                repaired: 0,
            }));
        }
    }

    /// What was held back is told.
    pub(super) fn end(&mut self, session: &mut Session) -> Result<()> {
        self.observe(session, &self.storms.all())?;
        for report in self.storms.rest(clock::since_boot_ns()) {
            self.report(report);
        }
        self.tell_dropped();
        Ok(())
    }

    /// The sum of it all, after so much time.
    pub(super) fn into_summary(self, follow: &Follow, duration: Duration) -> (Writer, Summary) {
        let summary = Summary {
            time: Timestamp::now(),
            backend: follow.session.backend,
            duration_s: duration.as_secs_f64(),
            records: follow.tracker.records,
            lost: follow.lost() + self.writer.dropped(),
            repaired: follow.tracker.repaired,
            exhausted: self.reports,
            failures: self.failures,
        };
        (self.writer, summary)
    }
}

impl Sink for Stream {
    const WANTS_ALL: bool = false;

    fn change(&mut self, _: Change, _: &Names) {}
}

impl Handler for Stream {
    fn alarm(&mut self, record: &[u8]) {
        if self.is_done() {
            return;
        }
        match Alarm::decode(record) {
            Ok(alarm) => {
                if let Some(report) = self.storms.apply(alarm) {
                    self.report(report);
                }
            }
            Err(error) => log::warn!("{error}"),
        }
    }
}

impl Listener for Stream {
    fn lost(&mut self, lost: Lost) {
        self.send(Fact::Loss(Loss {
            time: Timestamp::now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        self.send(Fact::Notice(text));
    }

    /// Tells what was held back.
    fn second(&mut self, session: &mut Session) -> Result<()> {
        let now_ns = clock::since_boot_ns();
        self.observe(session, &self.storms.active(now_ns))?;
        for report in self.storms.due(now_ns) {
            self.report(report);
        }
        self.forget_ended(session, now_ns)?;
        self.tell_dropped();
        Ok(())
    }

    /// Was one report enough, and has it been made?
    fn is_done(&self) -> bool {
        self.once && self.reports > 0
    }
}

/// Is no process left of that number?
fn has_ended(tgid: u32) -> bool {
    let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}
