//! What no record tells of processes, looked up while they are there: full paths of open files, users,
//! cgroups, names. A thread of its own asks /proc; which files to ask about is found in the tables, a part
//! of them each second.

mod thread;

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use rustc_hash::FxHashMap;

use self::thread::{Answer, Question};
use crate::{
    commands::round::Round,
    diagnose::holders::Holder,
    engine::Engine,
    enrich::{
        holders::wanted,
        lookup::{Looked, LookedPath, LookedProcess, Text},
        select::AskedSelect,
        stacks::Stacks,
    },
    stream::{decode::Alarm, recording::Note},
    timers::Timer,
};

/// Slots that are looked at in a second: a millisecond or two.
const SLOTS: usize = 50_000;
/// Questions that may wait; further ones are asked another time.
const WAITING: usize = 4_096;
/// Answers that are remembered, of files and of processes.
const KEPT: usize = 1 << 16;
/// Fewer are kept whether their process is there or not.
const FEW: usize = 1 << 10;
/// Answers are asked for again after so long: files are deleted, processes change their user.
const FRESH: Timer = Timer::seconds(30);
/// Paths in one note.
const PATHS: usize = 256;
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process, and the inode number of a file that it has open.
type File = (u32, u64);

/// What is known of something, and when it was asked for last.
struct Known<T> {
    asked_ns: u64,
    answer: Option<T>,
}

/// The near end of the thread.
pub(super) struct Lookups {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    waiting: usize,
    files: FxHashMap<File, Known<Arc<[u8]>>>,
    processes: FxHashMap<u32, Known<LookedProcess>>,
    /// With so many files and processes remembered, those of processes that are gone are forgotten.
    many: (usize, usize),
    round: Round,
    /// An answer to [`Question::Until`] is still to come.
    is_marked: bool,
}

impl Lookups {
    pub(super) fn start() -> Result<Self> {
        let (questions, answers) = thread::start()?;
        Ok(Self {
            questions,
            answers,
            waiting: 0,
            files: FxHashMap::default(),
            processes: FxHashMap::default(),
            many: (FEW, FEW),
            round: Round::default(),
            is_marked: false,
        })
    }

    /// A report is to be made of this process now, and it may be gone a moment later.
    pub(super) fn ask_at_once(
        &mut self,
        alarm: &Alarm,
        select: AskedSelect,
        holders: &[Holder],
        now_ns: u64,
    ) {
        let pid = alarm.key.tgid;
        self.ask_process(pid, Some(alarm), select, now_ns);
        for (fd, inode) in holders.iter().flat_map(wanted) {
            self.ask_file(pid, fd, inode, now_ns);
        }
    }

    /// Looks at the next part of the tables, for files of which nothing is known, or nothing new.
    pub(super) fn look(&mut self, engine: &dyn Engine, now_ns: u64) {
        self.forget(engine);
        let mut round = std::mem::take(&mut self.round);
        let mut process = None;
        round.go_on(engine, SLOTS, |pid, open| {
            if process.replace(pid) != Some(pid) && self.is_old_process(pid, now_ns) {
                self.ask_process(pid, None, AskedSelect::default(), now_ns);
            }
            if open.kind.has_path() && self.is_old_file(pid, open.inode, now_ns) {
                self.ask_file(pid, open.fd, open.inode, now_ns);
            }
            self.waiting < WAITING
        });
        self.round = round;
    }

    fn is_old_file(&self, pid: u32, inode: u64, now_ns: u64) -> bool {
        is_old(self.files.get(&(pid, inode)), now_ns)
    }

    fn is_old_process(&self, pid: u32, now_ns: u64) -> bool {
        is_old(self.processes.get(&pid), now_ns)
    }

    fn ask_file(&mut self, pid: u32, fd: u32, inode: u64, now_ns: u64) {
        let question = Question::File { pid, fd, inode };
        if self.has_room(self.files.len()) && self.ask(question) {
            touch(self.files.entry((pid, inode)).or_default(), now_ns);
        }
    }

    /// Asks who a process is.
    pub(super) fn ask_process(
        &mut self,
        pid: u32,
        alarm: Option<&Alarm>,
        select: AskedSelect,
        now_ns: u64,
    ) {
        let question = Question::Process {
            pid,
            started_ns: alarm.map_or(0, |alarm| alarm.key.started_ns),
            cgroup: alarm.map(|alarm| alarm.cgroup.clone()),
            select,
        };
        if self.has_room(self.processes.len()) && self.ask(question) {
            touch(self.processes.entry(pid).or_default(), now_ns);
        }
    }

    fn has_room(&self, kept: usize) -> bool {
        self.waiting < WAITING && kept < KEPT
    }

    fn ask(&mut self, question: Question) -> bool {
        let is_asked = self.questions.send(question).is_ok();
        self.waiting += usize::from(is_asked);
        is_asked
    }

    /// Processes that are gone are remembered no longer: looked for whenever there are twice as many as after the last
    /// time, so that it costs a moment and half of what is kept is of use.
    fn forget(&mut self, engine: &dyn Engine) {
        let is_there = |pid: u32| engine.thread(pid).is_some();
        let limit = |left: usize| (2 * left).clamp(FEW, KEPT / 2);
        if self.files.len() > self.many.0 {
            self.files.retain(|(pid, _), _| is_there(*pid));
            self.many.0 = limit(self.files.len());
        }
        if self.files.len() > KEPT / 2 {
            let mut files: Vec<_> = self.files.values().map(|known| known.asked_ns).collect();
            let (_, middle, _) = files.select_nth_unstable(KEPT / 4);
            let middle = *middle;
            self.files.retain(|_, known| known.asked_ns > middle);
        }
        if self.processes.len() > self.many.1 {
            self.processes.retain(|pid, _| is_there(*pid));
            self.many.1 = limit(self.processes.len());
        }
    }

    /// What has been asked for up to here, stacks too, is to be marked as answered when it is.
    pub(super) fn mark(&mut self, stacks: &mut Stacks, now_ns: u64) {
        if self.is_marked {
            return;
        }
        self.is_marked = true;
        self.waiting += 1;
        let questions = self.questions.clone();
        let ask = move || {
            // Whoever asks is there; the thread ends with it.
            let _ = questions.send(Question::Until(now_ns));
        };
        if stacks.is_running() {
            stacks.ask(move |_| ask());
        } else {
            ask();
        }
    }

    /// News for the recording, and up to when all questions have been answered.
    pub(super) fn notes(&mut self) -> (Vec<Note>, Option<u64>) {
        let answers: Vec<_> = self.answers.try_iter().collect();
        self.take(answers)
    }

    /// The same, when everything has been answered that was asked for.
    pub(super) fn last_notes(&mut self) -> (Vec<Note>, Option<u64>) {
        let end = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        while self.waiting > answers.len() {
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(answer) => answers.push(answer),
                Err(_) => break,
            }
        }
        self.take(answers)
    }

    fn take(&mut self, answers: Vec<Answer>) -> (Vec<Note>, Option<u64>) {
        self.waiting = self.waiting.saturating_sub(answers.len());
        let (mut paths, mut processes, mut until) = (Vec::new(), Vec::new(), None);
        for answer in answers {
            match answer {
                Answer::Until(until_ns) => {
                    self.is_marked = false;
                    until = Some(until_ns);
                }
                Answer::Process(mut process) => {
                    let known = self.processes.get_mut(&process.pid);
                    if let Some(before) = known.as_ref().and_then(|known| known.answer.as_ref())
                        && process.ended_ns.is_some()
                    {
                        process.ended_ns = before.ended_ns.or(process.ended_ns);
                    }
                    if let Some(before) = known.as_ref().and_then(|known| known.answer.as_ref()) {
                        // One that has ended has no user any more.
                        process.uid = process.uid.or(before.uid);
                        let lineage = || before.lineage.clone();
                        process.lineage = process.lineage.or_else(lineage);
                        process.select = process.select.or_else(|| before.select.clone());
                    }
                    if known.is_none_or(|known| set(known, &process)) {
                        processes.push(*process);
                    }
                }
                Answer::File { path: None, .. } => {}
                Answer::File {
                    pid,
                    inode,
                    path: Some(path),
                } => {
                    let path: Arc<[u8]> = path.into();
                    let known = self.files.get_mut(&(pid, inode));
                    if known.is_none_or(|known| set(known, &path)) {
                        paths.push((path, (pid, inode)));
                    }
                }
            }
        }
        (notes(processes, paths), until)
    }

    /// All that is known of processes that are there, for a recording that begins anew.
    pub(super) fn all(&self, engine: &dyn Engine) -> Vec<Note> {
        let is_there = |pid: u32| engine.thread(pid).is_some();
        let processes = self.processes.values();
        let processes = processes.filter_map(|known| known.answer.clone());
        let processes = processes.filter(|process| is_there(process.pid));
        let files = self.files.iter().filter(|((pid, _), _)| is_there(*pid));
        let files = files.filter_map(|(file, known)| Some((known.answer.clone()?, *file)));
        notes(processes.collect(), files.collect())
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            asked_ns: 0,
            answer: None,
        }
    }
}

fn is_old<T>(known: Option<&Known<T>>, now_ns: u64) -> bool {
    known.is_none_or(|known| now_ns.saturating_sub(known.asked_ns) > FRESH.ns())
}

fn touch<T>(known: &mut Known<T>, now_ns: u64) {
    known.asked_ns = now_ns;
}

/// Takes an answer in; is it news?
fn set<T: Clone + PartialEq>(known: &mut Known<T>, answer: &T) -> bool {
    let is_news = known.answer.as_ref() != Some(answer);
    if is_news {
        known.answer = Some(answer.clone());
    }
    is_news
}

/// Each path once, with all who have it open.
fn notes(processes: Vec<LookedProcess>, mut files: Vec<(Arc<[u8]>, File)>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut processes = processes.into_iter().peekable();
    while processes.peek().is_some() {
        notes.push(Note::Looked(Looked {
            processes: processes.by_ref().take(PATHS).collect(),
            paths: Vec::new(),
        }));
    }
    files.sort_unstable();
    for files in files.chunks(PATHS) {
        let paths = files.chunk_by(|(one, _), (other, _)| one == other);
        let paths = paths.map(|files| LookedPath {
            path: Text(files.first().map_or(&[][..], |(path, _)| path).to_vec()),
            files: files.iter().map(|(_, file)| *file).collect(),
        });
        notes.push(Note::Looked(Looked {
            processes: Vec::new(),
            paths: paths.collect(),
        }));
    }
    notes
}

#[cfg(test)]
mod tests;
