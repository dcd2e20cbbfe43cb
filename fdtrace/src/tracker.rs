//! The model of all tables, kept alive: the ring's records go in, and passes join it with the kernel's
//! iterators, at the start and whenever something may have been lost.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use fdtrace_common::{
    change::OpenRecord,
    python::{PythonFrame, PythonRecord},
    stack::StackRecord,
};

use crate::{
    engine::{
        Engine,
        change::Sink,
        difference::Difference,
        opener::{Sequence, Slot},
    },
    enrich::{
        lookup::Text,
        stacks::{Raw, Stack, Stacks, reader::is_reader},
    },
    ground::{call::numbers, task::Task, tcp_state::TcpState},
    model::{
        Model,
        tables::{
            Calls, Tables,
            reconcile::{Outcome, Pass, Purpose},
        },
    },
    probe::{attach::Session, tables as iterators},
    stream::{
        clock::Clock,
        record::Record,
        recording::{Event, Note},
        ring::Ring,
    },
};

/// The reader looks into the ring this often: no record but an alarm wakes it up.
pub const LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at a difference: whoever is in the middle of a change has finished it.
pub const CONFIRM: Duration = Duration::from_millis(250);
/// The iterator's mark is in the ring when the iterator ends; this is for a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that a recording tells until a stack is forgotten whose fd was closed. They come once a second, and tell of
/// what was asked a second before; a report of failures that were held back is made up to two seconds after them.
const ANSWERS: usize = 4;

/// The live model.
pub struct Tracker {
    /// Everything that is known.
    pub(crate) model: Model,
    /// Records taken.
    pub records: u64,
    /// Differences put right since the start was over.
    pub repaired: u64,
    /// The stacks of those who open fds, where they are taken.
    pub stacks: Stacks,
    /// Stacks taken.
    sequence: Sequence,
    /// Of a recording: stacks that belong to nothing any more, but maybe to facts that wait, by the answers
    /// that they were closed between; the last ones after the last answers.
    gone: [Vec<Sequence>; ANSWERS],
    marks: u64,
    /// Frames of interpreters whose stack comes next.
    frames: Frames,
    /// The own process, whose stacks are not read.
    own: Option<u32>,
}

/// Frames of interpreters that wait for the stack that they belong to: it comes right behind them, but for what other
/// CPUs have written meanwhile. A stack that was lost leaves them behind, until there are too many.
#[derive(Debug, Default)]
struct Frames(VecDeque<(PythonRecord, Box<[PythonFrame]>)>);

impl Frames {
    const MAX: usize = 1_024;

    fn push(&mut self, frames: (PythonRecord, Box<[PythonFrame]>)) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(frames);
    }

    fn take(&mut self, stack: &StackRecord) -> Box<[PythonFrame]> {
        let is_of_it = |(head, _): &(PythonRecord, _)| {
            (head.files, head.fd, head.file, head.tid)
                == (stack.files, stack.fd, stack.file, stack.tid)
        };
        let index = self.0.iter().rposition(is_of_it);
        let found = index.and_then(|index| self.0.remove(index));
        found.map_or_else(Box::default, |(_, frames)| frames)
    }
}

/// What whoever hears of something may ask.
pub struct Known<'a> {
    /// What is known of all tables.
    pub engine: &'a dyn Engine,
    /// The stacks of those who have opened something.
    pub stacks: &'a mut Stacks,
    /// With an alarm: the stack of the call that has failed, where one was taken.
    pub failing: Option<Sequence>,
}

/// What becomes of records.
pub trait Handler: Sink {
    /// A call has failed for want of an fd: the record's bytes.
    fn alarm(&mut self, record: &[u8], known: &mut Known<'_>);

    /// The clock that facts are told by.
    fn clock(&self) -> Clock {
        Clock::System
    }

    /// Whoever opens the file of a record to come has left a stack, which `stacks` is asked about.
    fn opener(&mut self, _: &Opener, _: &mut Stacks) {}

    /// Everything that the model is fed with, before it is: for whoever keeps it.
    fn tap(&mut self, _: Event<'_>) {}
}

/// A file that is about to come into a slot, and the stack of whoever puts it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The table.
    pub files: u64,
    /// The number.
    pub fd: u32,
    /// The file.
    pub file: u64,
    /// Which stack.
    pub sequence: Sequence,
}

/// The calls that the model of tables tells apart.
#[must_use]
pub fn calls() -> Calls {
    Calls {
        unshare: numbers(&["unshare", "execve", "execveat", "close_range"]),
        dup: numbers(&["dup", "dup2", "dup3", "fcntl", "fcntl64"]),
        receive: numbers(&["recvmsg", "recvmmsg", "recvmmsg_time64", "pidfd_getfd"]),
    }
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            model: Model {
                tables: Tables::new(calls()),
                ..Model::default()
            },
            records: 0,
            repaired: 0,
            stacks: Stacks::start(),
            sequence: 0,
            gone: Default::default(),
            marks: 0,
            frames: Frames::default(),
            own: None,
        }
    }
}

impl Tracker {
    /// One of this host. Stacks of fdtrace itself are none of its business: reading a stack opens files, and the
    /// stacks of that would be read next.
    #[must_use]
    pub fn of_host() -> Self {
        Self {
            own: Some(std::process::id()),
            ..Self::default()
        }
    }

    /// One that is fed from a recording.
    #[must_use]
    pub fn of_recording() -> Self {
        Self {
            stacks: Stacks::elsewhere(),
            // Those that the recording has numbered are below.
            sequence: 1 << 63,
            ..Self::default()
        }
    }

    /// What is known now.
    pub fn known(&mut self) -> Known<'_> {
        Known {
            engine: &self.model,
            stacks: &mut self.stacks,
            failing: None,
        }
    }

    /// What is known of all tables now.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        &self.model
    }

    /// A second has gone by.
    pub fn second(&mut self, now_ns: u64) {
        self.model.second(now_ns);
    }

    /// An iterator has shown this slot.
    pub fn show_slot(&mut self, pass: &mut Pass, record: &OpenRecord) {
        self.model.show(pass, record);
    }

    /// What passes have found, as readers see it.
    #[must_use]
    pub fn describe(&self, outcome: &Outcome) -> Vec<Difference> {
        outcome.described(self.model.tables.names())
    }

    /// Takes all records that there are. Never blocks.
    pub fn drain(&mut self, ring: &mut Ring, handler: &mut impl Handler) {
        self.model.tables.set_time(handler.clock().now_ns());
        ring.drain(|record| self.read(record, handler));
        self.model.tables.settle(handler);
    }

    /// Takes one record of the ring. Never blocks.
    pub fn take(&mut self, bytes: &[u8], handler: &mut impl Handler) {
        self.read(bytes, handler);
        self.model.tables.settle(handler);
    }

    /// Takes one of several records: what opens a file may wait for the next ones.
    fn read(&mut self, bytes: &[u8], handler: &mut impl Handler) {
        let record = Record::read(bytes);
        // A stack means nothing without the process that it is of, and a program nothing without stacks.
        if !matches!(
            record,
            Ok(Record::Stack(..) | Record::Python(..) | Record::Program(_))
        ) {
            handler.tap(Event::Record(bytes));
        }
        if let Ok(Record::Change(change)) = record {
            self.records += 1;
            self.model.tables.apply_soon(change, handler);
            return;
        }
        self.model.tables.settle(handler);
        match record {
            Ok(Record::Change(_)) => {}
            Ok(Record::Alarm(bytes)) => {
                self.records += 1;
                self.take_alarm(bytes, handler);
            }
            Ok(Record::Held(held)) => self.model.hold(held),
            Ok(Record::Mark) => self.marks += 1,
            Ok(Record::Stack(head, stack)) => self.take_stack(head, stack, handler),
            Ok(Record::Python(head, frames)) => self.frames.push((*head, frames.into())),
            Ok(Record::Program(program)) => self.stacks.executed(program.tgid, program.into()),
            Err(error) => log::warn!("{error}"),
        }
    }

    fn take_alarm(&mut self, bytes: &[u8], handler: &mut impl Handler) {
        let failing = self.model.take_failing(bytes);
        let mut known = Known {
            failing,
            ..self.known()
        };
        handler.alarm(bytes, &mut known);
        self.model.release_held(bytes);
        // Facts of a recording ask for it later, when answers have come.
        match failing {
            Some(sequence) if self.stacks.is_elsewhere() => self.gone[ANSWERS - 1].push(sequence),
            _ => self.stacks.forget(failing.into_iter().collect()),
        }
    }

    fn take_stack(&mut self, head: &StackRecord, stack: &[u8], handler: &mut impl Handler) {
        if self.own == Some(head.tgid) || is_reader(head.tgid) {
            return;
        }
        self.sequence += 1;
        let opener = Opener {
            files: head.files,
            fd: head.fd,
            file: head.file,
            sequence: self.sequence,
        };
        let mut gone = Vec::new();
        let slot = (opener.files, opener.fd, opener.file);
        self.model.put_opener(slot, opener.sequence, &mut gone);
        self.stacks.push(Raw {
            sequence: opener.sequence,
            head: *head,
            bytes: stack.into(),
            python: self.frames.take(head),
        });
        handler.opener(&opener, &mut self.stacks);
        self.stacks.forget(gone);
    }

    /// The same from a recording, in which stacks are resolved.
    pub fn take_resolved(&mut self, stack: Arc<Stack>, opened: &[(u64, u32, u64)]) {
        let (mut gone, mut sequences) = (Vec::new(), Vec::new());
        for slot in opened {
            self.sequence += 1;
            self.model.put_opener(*slot, self.sequence, &mut gone);
            sequences.push(self.sequence);
        }
        self.stacks.ask(move |resolver| {
            for sequence in sequences {
                resolver.insert(sequence, Arc::clone(&stack));
            }
        });
        self.stacks.forget(gone);
    }

    /// Of a recording: whoever puts this file into this slot has left a stack that is told later, by this
    /// number.
    pub fn expect_resolved(&mut self, slot: Slot, number: Sequence) {
        self.model
            .put_opener(slot, number, &mut self.gone[ANSWERS - 1]);
    }

    /// Such a stack. It is remembered until answers have come so often after its fd was closed: [`ANSWERS`].
    pub fn take_expected(&mut self, stack: Arc<Stack>, numbers: Vec<Sequence>) {
        self.stacks.ask(move |resolver| {
            for number in numbers {
                resolver.insert(number, Arc::clone(&stack));
            }
        });
    }

    /// Answers have come: no fact waits any longer for what was gone long before them.
    pub fn forget_gone(&mut self) {
        self.stacks.forget(std::mem::take(&mut self.gone[0]));
        self.gone.rotate_left(1);
    }

    /// Compares the model with the kernel's tables, for a purpose. `None`: the mark was lost, and with it
    /// whatever else found the ring full; nothing was compared. Nor was it where the iterators fail.
    pub fn pass(
        &mut self,
        session: &mut Session,
        ring: &mut Ring,
        purpose: Purpose,
        handler: &mut impl Handler,
    ) -> Result<Option<Outcome>> {
        let mut pass = self.begin_pass(handler);
        let shown = self.show(&mut pass, session, ring, handler);
        if let Ok(true) = shown {
            return Ok(Some(self.end_pass(pass, purpose, handler)));
        }
        self.abandon_pass(pass, handler);
        shown.map(|_| None)
    }

    /// Reads the iterators, and the ring up to their mark; false where the mark was lost.
    fn show(
        &mut self,
        pass: &mut Pass,
        session: &mut Session,
        ring: &mut Ring,
        handler: &mut impl Handler,
    ) -> Result<bool> {
        let marks = self.marks;
        for thread in iterators::threads(&mut session.ebpf, &session.targets)? {
            handler.tap(Event::Thread(&thread));
            pass.thread(thread);
        }
        let mut slots = iterators::slots(&mut session.ebpf, &session.targets)?;
        while slots.next(|record| {
            handler.tap(Event::Slot(record));
            self.model.show(pass, record);
        })? {
            self.drain(ring, handler);
        }
        let start = Instant::now();
        while self.marks == marks {
            self.drain(ring, handler);
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            std::thread::yield_now();
        }
        Ok(true)
    }

    /// Takes in where sockets lead to, by inode.
    pub fn take_ends(&mut self, mut ends: Vec<(u64, Vec<u8>)>, handler: &mut impl Handler) {
        let sockets = &self.model.sockets;
        ends.retain(|(inode, end)| sockets.get(*inode).end != Some(end));
        if ends.is_empty() {
            return;
        }
        let ends = ends.into_iter().map(|(inode, end)| (inode, Text(end)));
        let note = Note::Ends(ends.collect());
        handler.tap(Event::Note(&note));
        if let Note::Ends(ends) = note {
            self.take_recorded_ends(ends);
        }
    }

    /// The same of a recording.
    pub fn take_recorded_ends(&mut self, ends: Vec<(u64, Text)>) {
        let ends = ends.into_iter().map(|(inode, Text(end))| (inode, end));
        self.model.sockets.take(ends);
    }

    /// Takes in the states of TCP sockets, by inode.
    pub fn take_states(&mut self, states: &[(u64, TcpState)], handler: &mut impl Handler) {
        let sockets = &mut self.model.sockets;
        let news = states
            .iter()
            .filter(|(inode, state)| sockets.get(*inode).state != Some(*state));
        let news: Vec<_> = news
            .map(|(inode, state)| (*inode, state.number()))
            .collect();
        if !news.is_empty() {
            sockets.take_numbers(&news);
            handler.tap(Event::Note(&Note::States(news)));
        }
    }

    /// The same of a recording, by the numbers of states.
    pub fn take_recorded_states(&mut self, states: &[(u64, u8)]) {
        self.model.sockets.take_numbers(states);
    }

    /// Takes in how full the tables are, as the kernel counts them.
    pub fn look_at_limits(&mut self, tasks: Vec<Task>, handler: &mut impl Handler) {
        if let Some(news) = self.model.limits.look(tasks) {
            handler.tap(Event::Note(&Note::Tasks(news)));
        }
    }

    /// Begins a pass that somebody else reads the iterators for.
    pub fn begin_pass(&mut self, handler: &mut impl Handler) -> Pass {
        handler.tap(Event::Note(&Note::PassBegun));
        self.model.tables.begin_pass()
    }

    /// Ends it.
    pub fn end_pass(
        &mut self,
        pass: Pass,
        purpose: Purpose,
        handler: &mut impl Handler,
    ) -> Outcome {
        let now_ns = handler.clock().now_ns();
        handler.tap(Event::Note(&Note::PassEnded { purpose, now_ns }));
        self.model.tables.look_at(now_ns);
        let outcome = self.model.tables.end_pass(pass, purpose, handler);
        self.repaired += outcome.repaired;
        outcome
    }

    /// Forgets it.
    pub fn abandon_pass(&mut self, pass: Pass, handler: &mut impl Handler) {
        handler.tap(Event::Note(&Note::PassAbandoned));
        self.model.tables.abandon_pass(pass);
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::{
        alarm::AlarmRecord,
        record::{RECORD_ALARM, RECORD_STACK},
        stack::FAILING,
    };
    use zerocopy::{FromBytes, FromZeros, IntoBytes};

    use super::*;
    use crate::{
        engine::change::{Change, Sink},
        enrich::stacks::{AwaitedStack, Frame},
    };

    struct Nobody;

    impl Sink for Nobody {
        const WANTS_ALL: bool = false;

        fn change(&mut self, _: Change, _: &[u8]) {}
    }

    impl Handler for Nobody {
        fn alarm(&mut self, _: &[u8], _: &mut Known<'_>) {}
    }

    fn stack_of_own() -> Vec<u64> {
        let record = StackRecord {
            kind: RECORD_STACK,
            fd: 3,
            files: 1,
            file: 7,
            tgid: std::process::id(),
            ..StackRecord::new_zeroed()
        };
        let mut words = vec![0; size_of::<StackRecord>() / 8];
        words.as_mut_bytes().copy_from_slice(record.as_bytes());
        words
    }

    #[test]
    fn a_stack_is_that_of_the_file_to_come() {
        let mut tracker = Tracker::default();
        tracker.take(stack_of_own().as_bytes(), &mut Nobody);
        let sequence = tracker.model.openers.get(1, 3, 7).unwrap();
        assert!(tracker.stacks.later(sequence).wait().flatten().is_some());
        assert_eq!(tracker.records, 0);
    }

    /// The stack of a call that fails comes before its alarm, goes with it, and belongs to no other thread's.
    #[test]
    fn a_failing_calls_stack_is_that_of_its_alarm() {
        #[derive(Default)]
        struct Alarms(Vec<Option<AwaitedStack>>);
        impl Sink for Alarms {
            const WANTS_ALL: bool = false;

            fn change(&mut self, _: Change, _: &[u8]) {}
        }
        impl Handler for Alarms {
            fn alarm(&mut self, _: &[u8], known: &mut Known<'_>) {
                let failing = known.failing;
                self.0
                    .push(failing.map(|sequence| known.stacks.later(sequence)));
            }
        }
        let alarm = |tid| {
            let mut alarm = AlarmRecord::new_zeroed();
            alarm.kind = RECORD_ALARM;
            alarm.key.files = 1;
            alarm.tid = tid;
            alarm.as_bytes().to_vec()
        };
        let mut stack = StackRecord::read_from_bytes(stack_of_own().as_bytes()).unwrap();
        (stack.fd, stack.file) = (FAILING | 8, 0);
        let (mut tracker, mut alarms) = (Tracker::default(), Alarms::default());
        tracker.take(stack.as_bytes(), &mut alarms);
        for tid in [9, 8, 8] {
            tracker.take(&alarm(tid), &mut alarms);
        }
        let [other, own, later] = &alarms.0[..] else {
            panic!("{} alarms", alarms.0.len())
        };
        assert!(other.is_none() && later.is_none());
        assert!(own.as_ref().unwrap().wait().flatten().is_some());
        assert!(tracker.model.openers.is_empty());
    }

    #[test]
    fn recorded_stacks_come_resolved_and_no_other_way() {
        let mut tracker = Tracker::of_recording();
        tracker.take(stack_of_own().as_bytes(), &mut Nobody);
        let sequence = tracker.model.openers.get(1, 3, 7).unwrap();
        assert_eq!(tracker.stacks.later(sequence).wait(), Some(None));
        let stack = Stack {
            frames: vec![Frame::default()],
            ..Stack::default()
        };
        tracker.take_resolved(Arc::new(stack.clone()), &[(1, 3, 7), (1, 4, 8)]);
        for (fd, file) in [(3, 7), (4, 8)] {
            let sequence = tracker.model.openers.get(1, fd, file).unwrap();
            let known = tracker.stacks.later(sequence).wait().flatten().unwrap();
            assert_eq!(*known, stack);
        }
    }
}
