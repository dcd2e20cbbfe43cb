//! A recording in place of the kernel: the same records and passes, to the same listeners.

mod chosen;
mod late;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufReader, Read, stdin},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use fdtrace_common::alarm::StormKey;
use jiff::Timestamp;

pub(super) use self::{
    chosen::{Choice, Chosen},
    late::Late,
};
use super::{
    follow::{Counts, Followed, Listener, Lost},
    say,
    troubles::Troubles,
};
use crate::{
    cli::StacksChoice,
    engine::{Engine, difference::Difference},
    ground::{host::Host, task::Task},
    model::tables::reconcile::{Outcome, Pass, Purpose},
    report::{fact::Place, words::counted, zone},
    stream::{
        clock::Clock,
        recording::{Item, Note, Reader, Start, key_from_words},
    },
    tracker::Tracker,
};

/// A recording that is being read.
pub(super) struct Replay {
    path: PathBuf,
    reader: Reader<BufReader<Box<dyn Read>>>,
    /// What it says of itself.
    pub(super) start: Start,
    pub(super) tracker: Tracker,
    pub(super) counts: Recorded,
    /// A recording has answers to everything: there is nothing in it.
    pub(super) troubles: Troubles,
    /// Records that nobody has seen, all places together.
    pub(super) lost: u64,
    /// How far it goes, in seconds since everything was armed.
    pub(super) duration_s: f64,
    /// Tables as the kernel had counted them at the end.
    pub(super) tasks: Vec<Task>,
    /// What the comparisons with the kernel have found.
    audits: Vec<Outcome>,
    time: Time,
    armed_ns: Option<u64>,
    is_whole: bool,
    shows_stacks: bool,
}

/// Where and when the recording is.
#[derive(Clone, Copy)]
struct Time {
    boot: Timestamp,
    now_ns: u64,
    host: Host,
}

impl Time {
    fn clock(self) -> Clock {
        Clock::Recorded {
            boot: self.boot,
            now_ns: self.now_ns,
        }
    }
}

/// What the kernel had counted of failures.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    counted: HashMap<StormKey, Vec<(u32, u64)>>,
    ended: HashSet<u32>,
}

impl Counts for Recorded {
    fn counted(&self, key: &StormKey) -> Result<Vec<(u32, u64)>> {
        Ok(self.counted.get(key).cloned().unwrap_or_default())
    }

    fn has_ended(&self, tgid: u32) -> bool {
        self.ended.contains(&tgid)
    }

    fn forget(&mut self, key: &StormKey) -> Result<()> {
        self.counted.remove(key);
        Ok(())
    }
}

impl Replay {
    /// Opens a recording; `-` is standard input. Where no stacks are shown, it is as if none had been taken.
    pub(super) fn open(path: &Path, stacks: StacksChoice) -> Result<Self> {
        let input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(stdin())
        } else {
            Box::new(File::open(path).with_context(|| format!("opening {}", path.display()))?)
        };
        let mut reader = Reader::new(BufReader::new(input))
            .with_context(|| format!("--replay {}", path.display()))?;
        let start = match reader.item() {
            Ok(Some(Item::Note(Note::Start(start)))) => start,
            Ok(_) => bail!(
                "--replay {}: the recording has no beginning: there is nothing in it yet",
                path.display()
            ),
            Err(error) => return Err(error).context(format!("--replay {}", path.display())),
        };
        let machine = rustix::system::uname();
        if machine.machine().to_bytes() != start.machine.as_bytes() {
            bail!(
                "--replay {}: recorded on {}, and numbers of system calls are read as {}'s here",
                path.display(),
                start.machine,
                machine.machine().to_string_lossy()
            );
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            tracker: Tracker::of_recording(),
            counts: Recorded::default(),
            troubles: Troubles::default(),
            lost: 0,
            duration_s: 0.0,
            tasks: Vec::new(),
            audits: Vec::new(),
            time: Time {
                boot: start.boot,
                now_ns: start.now_ns,
                host: start.host,
            },
            armed_ns: None,
            is_whole: false,
            shows_stacks: stacks != StacksChoice::Never,
            start,
        })
    }

    /// Says what is replayed.
    pub(super) fn banner(&self) {
        let boot = self.start.boot;
        let begun = boot.saturating_add(self.age()).unwrap_or(boot);
        say(&format!(
            "replaying {}: {begun:.0}, kernel {}, {} backend; times in text are those of {}",
            self.path.display(),
            self.start.kernel,
            self.start.backend,
            zone::name_at(begun),
        ));
    }

    fn age(&self) -> jiff::SignedDuration {
        let age = i64::try_from(self.start.now_ns).unwrap_or(i64::MAX);
        jiff::SignedDuration::from_nanos(age)
    }

    /// Reads on until the end, until so much recorded time has gone by since everything was armed, or
    /// until the handler has had enough.
    pub(super) fn run(
        &mut self,
        duration: Option<Duration>,
        handler: &mut impl Listener,
    ) -> Result<()> {
        handler.at(self.time.clock(), self.time.host);
        let mut pass: Option<Pass> = None;
        while !handler.is_done() && !self.is_over(duration) {
            let item = self
                .reader
                .item()
                .with_context(|| format!("--replay {}", self.path.display()))?;
            let Some(item) = item else {
                break;
            };
            match item {
                Item::Record(record) => self.tracker.take(record, handler),
                Item::Thread(thread) => {
                    if let Some(pass) = &mut pass {
                        pass.thread(*thread);
                    }
                }
                Item::Slot(slot) => {
                    if let Some(pass) = &mut pass {
                        self.tracker.show_slot(pass, slot);
                    }
                }
                Item::Hole(chunks) => handler.notice(format!(
                    "{} of the recording missing here: the disk was too slow",
                    counted(u64::from(chunks), "part")
                )),
                Item::Note(Note::PassBegun) => pass = Some(self.tracker.begin_pass(handler)),
                Item::Note(Note::PassAbandoned) => {
                    if let Some(pass) = pass.take() {
                        self.tracker.abandon_pass(pass, handler);
                    }
                }
                Item::Note(Note::PassEnded { purpose, now_ns }) => {
                    self.move_to(now_ns, handler);
                    if let Some(pass) = pass.take() {
                        let outcome = self.tracker.end_pass(pass, purpose, handler);
                        if purpose == Purpose::Audit {
                            self.audits.push(outcome);
                        }
                    }
                }
                Item::Note(note) => self.note(note, handler),
            }
        }
        if handler.is_done() || self.is_over(duration) {
            self.read_answers(handler);
        } else if !self.is_whole {
            handler.notice("the recording was cut off here".to_owned());
        }
        Ok(())
    }

    /// Reads on, up to where everything has been told that was asked for until now.
    fn read_answers(&mut self, handler: &mut impl Listener) {
        let now_ns = self.time.now_ns;
        let mut is_answered = !self.start.answers;
        while !is_answered {
            match self.reader.item() {
                Ok(Some(Item::Note(note))) => {
                    is_answered = matches!(note, Note::Answered { until_ns } if until_ns > now_ns);
                    if matches!(
                        note,
                        Note::Stack { .. } | Note::Looked(_) | Note::Answered { .. }
                    ) {
                        self.note(note, handler);
                    }
                }
                Ok(Some(_)) => {}
                // Nobody has asked for what comes here.
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn is_over(&self, duration: Option<Duration>) -> bool {
        duration.is_some_and(|duration| self.duration_s >= duration.as_secs_f64())
    }

    fn move_to(&mut self, now_ns: u64, handler: &mut impl Listener) {
        self.time.now_ns = now_ns;
        if let Some(armed_ns) = self.armed_ns {
            let time = Duration::from_nanos(now_ns.saturating_sub(armed_ns));
            self.duration_s = time.as_secs_f64();
        }
        handler.at(self.time.clock(), self.time.host);
    }

    fn note(&mut self, note: Note, handler: &mut impl Listener) {
        match note {
            Note::Armed { now_ns } => {
                self.armed_ns.get_or_insert(now_ns);
                self.move_to(now_ns, handler);
                handler.armed();
            }
            Note::Second { now_ns, boot, host } => {
                (self.time.boot, self.time.host) = (boot, host);
                self.move_to(now_ns, handler);
                self.tracker.second(now_ns);
                let known = &mut self.tracker.known();
                handler.second(&mut self.counts, known, &mut self.troubles);
                self.counts.ended.clear();
            }
            Note::Counted { key, counted } => {
                self.counts.counted.insert(key_from_words(&key), counted);
            }
            Note::Ended { tgid } => {
                self.counts.ended.insert(tgid);
            }
            Note::Lost {
                place: Place::Stacks,
                ..
            }
            | Note::Taken { .. }
            | Note::Stack { .. }
                if !self.shows_stacks => {}
            Note::Lost {
                place,
                count,
                now_ns,
            } => {
                self.move_to(now_ns, handler);
                // As live: nothing else is missing for want of stacks.
                self.lost += if place == Place::Stacks { 0 } else { count };
                handler.lost(Lost {
                    place,
                    count,
                    repaired: self.tracker.repaired,
                });
            }
            Note::Taken { slot, number } => {
                if self.start.answers {
                    self.tracker.expect_resolved(slot, number);
                }
                handler.taken(slot, number);
            }
            Note::Stack {
                stack,
                opened,
                numbers,
            } => {
                let stack = Arc::new(stack);
                handler.resolved(&numbers, &stack);
                if self.start.answers && !numbers.is_empty() {
                    self.tracker.take_expected(stack, numbers);
                } else {
                    self.tracker.take_resolved(stack, &opened);
                }
            }
            Note::Looked(looked) => handler.looked(looked),
            Note::Ends(ends) => self.tracker.take_recorded_ends(ends),
            Note::States(states) => self.tracker.take_recorded_states(&states),
            Note::Answered { until_ns } => {
                handler.answered(until_ns, &mut self.tracker.known());
                self.tracker.forget_gone();
            }
            Note::Notice { text } => handler.notice(text),
            Note::Task(task) => self.tasks.push(task),
            Note::Tasks(tasks) => self.tracker.look_at_limits(tasks, handler),
            Note::End { now_ns, duration_s } => {
                self.move_to(now_ns, handler);
                self.duration_s = duration_s.unwrap_or(self.duration_s);
                self.is_whole = true;
            }
            // The others have been taken already; a second start is nothing new.
            Note::Start(_) | Note::PassBegun | Note::PassEnded { .. } | Note::PassAbandoned => {}
        }
    }

    /// What is known of all tables at this point of it.
    pub(super) fn engine(&self) -> &dyn Engine {
        self.tracker.engine()
    }

    /// The sum of it.
    pub(super) fn followed(&self) -> Followed {
        Followed {
            backend: self.start.backend,
            duration_s: self.duration_s,
            records: self.tracker.records,
            lost: self.lost,
            repaired: self.tracker.repaired,
            programs: None,
        }
    }

    /// What the comparisons at the end have found; `None` where there were none.
    ///
    /// Each comparison is two looks. Where there are several (census, where the host goes on changing
    /// between them), what is wrong differs after each.
    pub(super) fn compared(&self) -> Option<Vec<Difference>> {
        let outcomes = self.audits.chunks_exact(2).map(|looks| looks[1].clone());
        let outcome = outcomes.reduce(|before, outcome| outcome.common_with(&before))?;
        Some(self.tracker.describe(&outcome))
    }
}
