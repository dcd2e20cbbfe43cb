//! Takes down all that a stream is made of.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use fdtrace_common::alarm::StormKey;
use jiff::Timestamp;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use super::{FileOutput, Flight, Lookups, Openers};
use crate::{
    cli::Record,
    commands::{
        called::Called,
        follow::{Counts, Listener, Lost},
        say,
        troubles::Troubles,
    },
    diagnose::{
        cause::{self, Cause},
        diagnosis::{Diagnosis, Patient},
        near_limit::percent,
    },
    engine::{
        Engine,
        change::{Change, Sink},
        storms::Storms,
    },
    enrich::{lookup::Text, select::AskedSelect, stacks::Stacks},
    probe::{attach::Session, backend::Backend, host},
    report::{
        fact::{Loss, Place},
        text,
    },
    stream::{
        clock::{self, Clock},
        decode::Alarm,
        recording::{Encoder, Event, Note, Start, key_to_words},
    },
    timers::Timer,
    tracker::{Handler, Known, Opener},
};

/// An exhaustion is written after so long, nanoseconds, although not all answers are there.
const ANSWERS_NS: u64 = 5_000_000_000;

/// An exhaustion that could not be written is tried again after so long: the disk is full.
const RETRY: Timer = Timer::seconds(10);

/// In percent of the limit: where warnings begin, unless a replay says otherwise.
const NEAR: u64 = 80;
/// Processes that are remembered as asked about.
const ASKED_MAX: usize = 4_096;

/// Sockets in one note.
const ENDS: usize = 4_096;

/// Where it goes.
pub(super) enum Output {
    File(FileOutput),
    Flight(Flight),
}

impl Output {
    pub(super) fn new(args: &Record, ended: &Arc<Notify>) -> Result<Self> {
        let Some(minutes) = args.flight else {
            let ended = Arc::clone(ended);
            let file = FileOutput::start(&args.output, move || ended.notify_one())?;
            return Ok(Self::File(file));
        };
        if args.output == Path::new("-") {
            bail!("--flight writes a file for each exhaustion: give --output a name");
        }
        if args.output.exists() {
            bail!(
                "{}: remove it or choose another name",
                args.output.display()
            );
        }
        let window = Timer::seconds(60 * u64::from(minutes)).duration();
        Ok(Self::Flight(Flight::new(&args.output, window)))
    }
}

/// What has come of it.
pub(super) struct Kept {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// The listener that keeps everything.
pub(super) struct Recorder {
    backend: Backend,
    output: Output,
    encoder: Encoder,
    openers: Openers,
    lookups: Lookups,
    called: Called,
    /// Processes near their limits that somebody has been asked about.
    asked_of: FxHashSet<u32>,
    /// Which kinds of failures the kernel may still be counting.
    storms: Storms<()>,
    armed_ns: Option<u64>,
    /// See [`Recorder::set_clock`].
    boot: Timestamp,
    /// A chunk was dropped: what comes next has to begin with all tables.
    has_hole: bool,
    /// There was an exhaustion that is not in a file yet, and when the last one was.
    is_wanted: bool,
    wanted_ns: u64,
    /// It could not be written, and is not tried again before this time.
    retry_ns: u64,
    /// Whatever was asked for up to here has been told.
    answered_ns: u64,
}

impl Recorder {
    pub(super) fn new(backend: Backend, called: Called, output: Output) -> Result<Self> {
        let openers = Openers::new(matches!(output, Output::Flight(_)));
        let mut recorder = Self {
            backend,
            openers,
            lookups: Lookups::start()?,
            called,
            asked_of: FxHashSet::default(),
            output,
            encoder: Encoder::default(),
            storms: Storms::default(),
            armed_ns: None,
            boot: clock::boot(),
            has_hole: false,
            is_wanted: false,
            wanted_ns: 0,
            retry_ns: 0,
            answered_ns: 0,
        };
        if let Output::File(_) = recorder.output {
            let start = Note::Start(start(backend, recorder.boot, clock::since_boot_ns()));
            recorder.add(Event::Note(&start));
        }
        Ok(recorder)
    }

    pub(super) fn add(&mut self, event: Event<'_>) {
        self.encoder.add(event);
        if self.encoder.is_full() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some(chunk) = self.encoder.take() else {
            return;
        };
        match &mut self.output {
            Output::Flight(flight) => flight.keep(chunk),
            Output::File(file) => self.has_hole |= !file.send(chunk),
        }
    }

    /// Follows the clock where somebody has set it. Two looks at it are never the same to the microsecond,
    /// and times in a recording are not to jump back and forth for that.
    fn set_clock(&mut self) {
        let now = clock::boot();
        if clock::was_set(self.boot, now) {
            self.boot = now;
        }
    }

    /// The tables from before are known: what comes from here on is news.
    pub(super) fn arm(&mut self, engine: &dyn Engine) {
        let now_ns = clock::since_boot_ns();
        self.armed_ns = Some(now_ns);
        if let Output::Flight(_) = self.output {
            self.begin_part(now_ns, engine);
        } else {
            self.add(Event::Note(&Note::Armed { now_ns }));
            self.hand_over();
        }
    }

    fn begin_part(&mut self, now_ns: u64, engine: &dyn Engine) {
        self.hand_over();
        if let Output::Flight(flight) = &mut self.output {
            flight.begin_part(now_ns);
        }
        engine.snapshot(now_ns, &mut |event| self.add(event));
        let known = [
            self.openers.all(engine),
            self.lookups.all(engine),
            ends(engine),
        ];
        self.add_notes(known.into_iter().flatten());
        self.add(Event::Note(&Note::Armed { now_ns }));
    }

    fn note_counts(&mut self, counts: &dyn Counts, keys: &[StormKey], troubles: &mut Troubles) {
        for key in keys {
            let counted = counts.counted(key);
            if let Some(counted) = troubles.note("failures of a kind are not counted", counted) {
                self.storms.observe(key, counted.iter().copied());
                let key = key_to_words(key);
                self.add(Event::Note(&Note::Counted { key, counted }));
            }
        }
    }

    fn add_notes(&mut self, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            self.add(Event::Note(&note));
        }
    }

    /// Answers that have come: of lookups first, so that stacks belong to them which had to come before.
    fn note_answers(&mut self, (looked, until): (Vec<Note>, Option<u64>)) {
        let resolved = self.openers.notes();
        self.add_notes(resolved.into_iter().chain(looked));
        self.answered_ns = until.unwrap_or(self.answered_ns);
        self.add_notes(until.map(|until_ns| Note::Answered { until_ns }));
    }

    /// Someone will want to know who holds these files, and the process may be gone in a moment.
    fn look_up(lookups: &mut Lookups, called: &Called, alarm: &Alarm, known: &mut Known<'_>) {
        let engine = known.engine;
        let patient = Patient::of(alarm, None);
        let diagnosis = Diagnosis::of(patient, engine, alarm.time_ns);
        let holders = diagnosis.map(|diagnosis| diagnosis.holders);
        let select = Self::ask_select(called, alarm, known.stacks);
        lookups.ask_at_once(alarm, select, &holders.unwrap_or_default(), alarm.time_ns);
    }

    /// A replay warns of tables that near their limits, and says of their processes as well whether they use select(2).
    fn ask_of_near(&mut self, known: &mut Known<'_>, now_ns: u64) {
        let near = known.engine.limits();
        let near = near.filter(|task| percent(task).is_some_and(|percent| percent >= NEAR));
        for pid in near.map(|task| task.tgid) {
            if self.asked_of.len() >= ASKED_MAX {
                self.asked_of.clear();
            }
            if self.asked_of.insert(pid) {
                let select = self.called.ask(pid, 0, Cause::RlimitNofile, known.stacks);
                self.lookups.ask_process(pid, None, select, now_ns);
            }
        }
    }

    /// Asks whether its process uses select(2).
    fn ask_select(called: &Called, alarm: &Alarm, stacks: &mut Stacks) -> AskedSelect {
        let cause = cause::cause(alarm, host::files);
        called.ask(alarm.key.tgid, alarm.key.started_ns, cause, stacks)
    }

    /// A report is due of what was held back: is its process still there?
    fn look_again(&mut self, stacks: &mut Stacks, now_ns: u64) {
        for report in self.storms.due(now_ns) {
            let select = Self::ask_select(&self.called, &report.alarm, stacks);
            self.lookups.ask_at_once(&report.alarm, select, &[], now_ns);
        }
    }

    /// Takes down the end.
    pub(super) fn end(
        &mut self,
        session: &Session,
        known: &mut Known<'_>,
        troubles: &mut Troubles,
        duration: Duration,
    ) -> Result<()> {
        self.note_counts(session, &self.storms.all(), troubles);
        for trouble in troubles.rest() {
            self.notice(trouble);
        }
        let now_ns = clock::since_boot_ns();
        self.lookups.look(known.engine, now_ns);
        self.ask_of_near(known, now_ns);
        self.lookups.mark(known.stacks, now_ns);
        let answers = self.lookups.last_notes();
        self.note_answers(answers);
        let now_ns = clock::since_boot_ns();
        if let Output::Flight(_) = self.output {
            return self.write_flight(now_ns);
        }
        self.add(Event::Note(&Note::End {
            now_ns,
            duration_s: Some(duration.as_secs_f64()),
        }));
        self.hand_over();
        Ok(())
    }

    /// Waits until all is written.
    pub(super) fn finish(self) -> Result<Kept> {
        Ok(match self.output {
            Output::Flight(flight) => Kept {
                bytes: 0,
                files: flight.files,
            },
            Output::File(file) => Kept {
                bytes: file.finish()?,
                files: 1,
            },
        })
    }

    /// Writes the minutes before an exhaustion, if there was one.
    fn write_flight(&mut self, now_ns: u64) -> Result<()> {
        self.hand_over();
        let Output::Flight(flight) = &mut self.output else {
            return Ok(());
        };
        let is_answered = self.answered_ns >= self.wanted_ns
            || now_ns.saturating_sub(self.wanted_ns) > ANSWERS_NS;
        if !self.is_wanted || !is_answered || !flight.may_write(now_ns) {
            return Ok(());
        }
        self.retry_ns = now_ns.saturating_add(RETRY.ns());
        let (backend, boot) = (self.backend, self.boot);
        let first = |began_ns| chunk(&[Note::Start(start(backend, boot, began_ns))]);
        let last = chunk(&[Note::End {
            now_ns,
            duration_s: None,
        }]);
        let path = flight.write(now_ns, first, last)?;
        (self.is_wanted, self.retry_ns) = (false, 0);
        say(&format!("exhaustion: written to {}", path.display()));
        Ok(())
    }
}

/// Where all open sockets lead to, and the states of connections, as far as that is known.
fn ends(engine: &dyn Engine) -> Vec<Note> {
    let tables = engine.tables().into_iter();
    let fds = tables.flat_map(|table| engine.fds(table.files, 0));
    let sockets = fds.filter(|open| open.kind.has_end());
    let mut inodes: Vec<_> = sockets.map(|open| open.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    let ends = inodes.iter().filter_map(|inode| {
        let end = engine.socket(*inode).end?;
        Some((*inode, Text(end.to_vec())))
    });
    let ends: Vec<_> = ends.collect();
    let states = inodes.iter().filter_map(|inode| {
        let state = engine.socket(*inode).state?;
        Some((*inode, state.number()))
    });
    let states: Vec<_> = states.collect();
    let ends = ends.chunks(ENDS).map(|ends| Note::Ends(ends.to_vec()));
    let states = states
        .chunks(ENDS)
        .map(|states| Note::States(states.to_vec()));
    ends.chain(states).collect()
}

fn chunk(notes: &[Note]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for note in notes {
        encoder.add(Event::Note(note));
    }
    encoder.take().unwrap_or_default()
}

fn start(backend: Backend, boot: Timestamp, now_ns: u64) -> Start {
    let system = rustix::system::uname();
    Start {
        fdtrace: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        machine: system.machine().to_string_lossy().into_owned(),
        pid: std::process::id(),
        backend,
        boot,
        now_ns,
        host: host::all(),
        answers: true,
    }
}

impl Sink for Recorder {
    const WANTS_ALL: bool = false;

    fn change(&mut self, _: Change, _: &[u8]) {}
}

impl Handler for Recorder {
    fn alarm(&mut self, record: &[u8], known: &mut Known<'_>) {
        let Ok(alarm) = Alarm::decode(record) else {
            return;
        };
        if self.armed_ns.is_some() && !self.is_wanted {
            (self.is_wanted, self.wanted_ns) = (true, clock::since_boot_ns());
        }
        let (lookups, called) = (&mut self.lookups, &self.called);
        let _ = self.storms.apply(alarm, |alarm| {
            Self::look_up(lookups, called, alarm, known);
        });
    }

    fn tap(&mut self, event: Event<'_>) {
        self.add(event);
    }

    fn opener(&mut self, opener: &Opener, stacks: &mut Stacks) {
        let note = self.openers.ask(opener, stacks);
        self.add(Event::Note(&note));
    }
}

impl Listener for Recorder {
    fn lost(&mut self, lost: Lost) {
        say(&text::loss(&Loss {
            time: Clock::System.now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
        self.add(Event::Note(&Note::Lost {
            place: lost.place,
            count: lost.count,
            now_ns: clock::since_boot_ns(),
        }));
    }

    fn notice(&mut self, text: String) {
        say(&text);
        self.add(Event::Note(&Note::Notice { text }));
    }

    fn second(&mut self, counts: &mut dyn Counts, known: &mut Known<'_>, troubles: &mut Troubles) {
        let now_ns = clock::since_boot_ns();
        self.set_clock();
        self.note_counts(counts, &self.storms.active(now_ns), troubles);
        self.look_again(known.stacks, now_ns);
        let answers = self.lookups.notes();
        self.note_answers(answers);
        for key in self.storms.stale(now_ns) {
            if counts.has_ended(key.tgid) {
                self.note_counts(counts, &[key], troubles);
                self.add(Event::Note(&Note::Ended { tgid: key.tgid }));
                troubles.note(
                    "the kernel keeps its count of an ended process",
                    counts.forget(&key),
                );
                let _ = self.storms.forget(&key, now_ns);
            }
        }
        self.add(Event::Note(&Note::Second {
            now_ns,
            boot: self.boot,
            host: host::all(),
        }));
        self.lookups.look(known.engine, now_ns);
        self.lookups.mark(known.stacks, now_ns);
        self.hand_over();
        if std::mem::take(&mut self.has_hole) {
            self.lost(Lost {
                place: Place::Output,
                count: 1,
                repaired: 0,
            });
            known.engine.snapshot(now_ns, &mut |event| self.add(event));
        }
        if self.armed_ns.is_none() {
            return;
        }
        if now_ns >= self.retry_ns {
            let written = self.write_flight(now_ns);
            troubles.note("an exhaustion is not written yet", written);
        }
        if let Output::Flight(flight) = &self.output
            && flight.is_part_over(now_ns)
        {
            self.begin_part(now_ns, known.engine);
        }
    }
}
