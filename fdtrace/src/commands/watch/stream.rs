//! From the kernel's records of failures to facts for the writer.

use fdtrace_common::alarm::StormKey;

use super::{
    diagnoses::{Diagnoses, Finding},
    other_ends::OtherEnds,
    shared_holders::SharedHolders,
};
use crate::{
    cli::Watch,
    commands::{
        called::Called,
        follow::{Counts, Followed, Listener, Lost},
        replay::Late,
        troubles::Troubles,
        wanted::Wanted,
    },
    diagnose::{
        cause::{self, Cause},
        diagnosis::{Diagnosis, Patient},
        near_limit::NearLimit,
    },
    engine::{
        change::{Change, Sink},
        storms::{Report, Storms},
    },
    enrich::{lookup::Looked, stacks::Stacks},
    ground::host::Host,
    probe::host,
    report::{
        fact::{self, Exhausted, Fact, Loss, Place, Summary},
        failing::FailedIn,
        writer::Writer,
    },
    stream::{clock::Clock, decode::Alarm, timeline::Timeline},
    tracker::{Handler, Known},
};

/// Facts that may wait for the stream's beginning.
const EARLY_MAX: usize = 1_024;

/// From records to facts: everything that a running stream has.
pub(super) struct Stream {
    once: bool,
    storms: Storms<Finding>,
    writer: Writer,
    /// What happened before everything else was said; `None` from then on.
    early: Option<Vec<Fact>>,
    reports: u64,
    failures: u64,
    /// Facts that found no room, as far as they have been told.
    dropped: u64,
    clock: Clock,
    times: Timeline,
    /// The host as it was when it was recorded; `None`: as it is now.
    host: Option<Host>,
    diagnoses: Diagnoses,
    near_limit: NearLimit,
    wanted: Wanted,
    shared_holders: SharedHolders,
    other_ends: OtherEnds,
    called: Called,
    /// Facts of a recording that tells answers.
    late: Option<Late<Fact>>,
}

impl Stream {
    /// Nothing read yet, nothing reported.
    pub(super) fn new(writer: Writer, args: &Watch, wanted: Wanted, called: Called) -> Self {
        let other_ends = OtherEnds::new(!wanted.is_all());
        Self {
            once: args.once,
            near_limit: NearLimit::new(args.warn_at),
            wanted,
            called,
            storms: Storms::default(),
            writer,
            early: Some(Vec::new()),
            reports: 0,
            failures: 0,
            dropped: 0,
            clock: Clock::System,
            times: Timeline::default(),
            host: None,
            diagnoses: Diagnoses::default(),
            shared_holders: SharedHolders::default(),
            other_ends,
            late: None,
        }
    }

    /// Facts wait for the answers that the recording tells.
    pub(super) fn wait_for_answers(&mut self) {
        self.late = Some(Late::default());
    }

    /// Begins the output, once everything else has been said.
    pub(super) fn start(&mut self) {
        self.writer.send(Fact::Start);
        for fact in self.early.take().into_iter().flatten() {
            self.writer.send(fact);
        }
    }

    /// A fact that needs no answers keeps its place among those that do.
    fn send(&mut self, fact: Fact) {
        match (&mut self.late, &mut self.early) {
            (Some(late), _) => late.push(fact, self.clock.now_ns()),
            (None, Some(early)) if early.len() < EARLY_MAX => early.push(fact),
            _ => self.writer.send(fact),
        }
    }

    /// A fact that wants to know who has opened what.
    fn tell(&mut self, fact: Fact, stacks: &mut Stacks) {
        if self.late.is_none() {
            ask_openers(&fact, stacks);
        }
        self.send(fact);
    }

    /// What has waited for these answers is written.
    fn release(&mut self, until_ns: u64, stacks: &mut Stacks) {
        while let Some(fact) = self.late.as_mut().and_then(|late| late.ready(until_ns)) {
            ask_openers(&fact, stacks);
            self.writer.send(fact);
        }
    }

    /// Takes a failure. What is to be said of it is found out now, also where it is said a second later.
    fn take(&mut self, alarm: Alarm, known: &mut Known<'_>) {
        let (host, is_late) = (self.host, self.late.is_some());
        let called = &self.called;
        let other_ends = &mut self.other_ends;
        let report = self.storms.apply(alarm, |alarm| {
            let host = || host.unwrap_or_else(host::files);
            let mut finding = Finding::of(alarm, known.engine, host);
            finding.failed_in = FailedIn::new(known.failing);
            let seen = Patient::of(alarm, None).seen;
            let diagnosis = finding.diagnosis.as_ref();
            let receives_by = cause::receives_by(alarm);
            finding.ends =
                other_ends.of(diagnosis, &seen, receives_by, known.engine, alarm.time_ns);
            let key = &alarm.key;
            finding.select = called.ask(key.tgid, key.started_ns, finding.cause, known.stacks);
            if !is_late {
                finding.failed_in.ask(known.stacks);
            }
            if let Some(diagnosis) = finding.diagnosis.as_ref().filter(|_| !is_late) {
                let holders = diagnosis.holders.iter();
                finding.openers.ask(holders, known.stacks);
            }
            finding
        });
        if let Some(report) = report {
            self.report(report, known);
        }
    }

    fn report(&mut self, report: Report<Finding>, known: &mut Known<'_>) {
        self.reports += 1;
        self.failures += 1 + report.repeats;
        let (mut finding, is_news) = self.diagnoses.of(&report);
        let key = &report.alarm.key;
        finding
            .select
            .now_called(self.called.of(key.tgid, key.started_ns));
        let is_partial = !self.wanted.is_all();
        let shared = self
            .shared_holders
            .of(finding.cause, known.engine, self.clock.now_ns());
        let exhausted = Exhausted {
            ends: finding.ends,
            shared: shared.map(|holders| fact::Shared {
                holders,
                is_partial,
            }),
            diagnosis: finding.diagnosis,
            openers: finding.openers,
            failed_in: finding.failed_in,
            asked_select: finding.select,
            is_news,
            host: self.host,
            ..Exhausted::new(report, finding.cause, self.clock, &mut self.times)
        };
        self.tell(Fact::Exhausted(Box::new(exhausted)), known.stacks);
    }

    fn observe(&mut self, counts: &dyn Counts, keys: &[StormKey], troubles: &mut Troubles) {
        for key in keys {
            let counted = counts.counted(key);
            let counted = troubles.note("failures of a kind are not counted", counted);
            self.storms.observe(key, counted.unwrap_or_default());
        }
    }

    /// Makes room for others where a process is gone.
    fn forget_ended(
        &mut self,
        counts: &mut dyn Counts,
        known: &mut Known<'_>,
        troubles: &mut Troubles,
        now_ns: u64,
    ) {
        for key in self.storms.stale(now_ns) {
            if counts.has_ended(key.tgid) {
                self.observe(counts, &[key], troubles);
                troubles.note(
                    "the kernel keeps its count of an ended process",
                    counts.forget(&key),
                );
                if let Some(report) = self.storms.forget(&key, now_ns) {
                    self.report(report, known);
                }
                self.diagnoses.forget(&key);
            }
        }
    }

    /// Warns of tables that have come near their limits.
    fn warn(&mut self, known: &mut Known<'_>, troubles: &mut Troubles) {
        // Who has run out needs no warning any more.
        let engine = known.engine;
        let mut past = self.near_limit.look(engine.limits());
        past.retain(|task| !self.storms.has(task.tgid));
        let now_ns = self.clock.now_ns();
        let wanted = self.wanted.choose(past, engine, troubles);
        for task in self.near_limit.tell(wanted) {
            let patient = Patient::of_task(&task);
            let diagnosis = Diagnosis::of(patient, engine, now_ns);
            let ends = diagnosis.as_ref();
            let ends = self
                .other_ends
                .of(ends, &patient.seen, None, engine, now_ns);
            let time = self.times.at(self.clock, now_ns);
            let near = fact::NearLimit {
                ends,
                host: self.host,
                asked_select: self
                    .called
                    .ask(task.tgid, 0, Cause::RlimitNofile, known.stacks),
                ..fact::NearLimit::new(task, diagnosis, time)
            };
            self.tell(Fact::NearLimit(Box::new(near)), known.stacks);
        }
    }

    fn tell_dropped(&mut self) {
        let count = self.writer.dropped() - self.dropped;
        if count > 0 {
            self.dropped += count;
            let time = self.times.now(self.clock);
            self.send(Fact::Loss(Loss {
                time,
                place: Place::Output,
                count,
                repaired: 0,
            }));
        }
    }

    /// What was held back is told, unless there was enough.
    pub(super) fn end(
        &mut self,
        counts: &dyn Counts,
        known: &mut Known<'_>,
        troubles: &mut Troubles,
    ) {
        if !self.is_done() {
            self.observe(counts, &self.storms.all(), troubles);
            for report in self.storms.rest(self.clock.now_ns()) {
                self.report(report, known);
            }
            self.tell_dropped();
        }
        self.release(u64::MAX, known.stacks);
    }

    /// The sum of it all; what following knows of it is the caller's to say.
    pub(super) fn into_summary(mut self, followed: Followed) -> (Writer, Summary) {
        let summary = Summary {
            time: self.times.now(self.clock),
            backend: followed.backend,
            duration_s: followed.duration_s,
            records: followed.records,
            lost: followed.lost + self.writer.dropped(),
            repaired: followed.repaired,
            exhausted: self.reports,
            failures: self.failures,
            programs: followed.programs,
        };
        (self.writer, summary)
    }
}

fn ask_openers(fact: &Fact, stacks: &mut Stacks) {
    let (diagnosis, openers) = match fact {
        Fact::Exhausted(exhausted) => {
            exhausted.failed_in.ask(stacks);
            (&exhausted.diagnosis, &exhausted.openers)
        }
        Fact::NearLimit(near) => (&near.diagnosis, &near.openers),
        _ => return,
    };
    if let Some(diagnosis) = diagnosis {
        openers.ask(diagnosis.holders.iter(), stacks);
    }
}

impl Sink for Stream {
    const WANTS_ALL: bool = false;

    fn change(&mut self, _: Change, _: &[u8]) {}
}

impl Handler for Stream {
    fn alarm(&mut self, record: &[u8], known: &mut Known<'_>) {
        if self.is_done() {
            return;
        }
        match Alarm::decode(record) {
            Ok(alarm) => self.take(alarm, known),
            Err(error) => log::warn!("{error}"),
        }
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

impl Listener for Stream {
    fn at(&mut self, clock: Clock, host: Host) {
        (self.clock, self.host) = (clock, Some(host));
    }

    fn looked(&mut self, looked: Looked) {
        // Ahead of all that waits for it.
        self.writer.send(Fact::Looked(looked));
    }

    fn answered(&mut self, until_ns: u64, known: &mut Known<'_>) {
        self.release(until_ns, known.stacks);
    }

    fn lost(&mut self, lost: Lost) {
        let time = self.times.now(self.clock);
        self.send(Fact::Loss(Loss {
            time,
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        self.send(Fact::Notice(text));
    }

    /// Tells what was held back.
    fn second(&mut self, counts: &mut dyn Counts, known: &mut Known<'_>, troubles: &mut Troubles) {
        let now_ns = self.clock.now_ns();
        self.observe(counts, &self.storms.active(now_ns), troubles);
        for report in self.storms.due(now_ns) {
            self.report(report, known);
        }
        self.forget_ended(counts, known, troubles, now_ns);
        self.warn(known, troubles);
        self.tell_dropped();
    }

    /// Was one report enough, and has it been made?
    fn is_done(&self) -> bool {
        (self.once && self.reports > 0) || self.writer.has_ended()
    }
}
