//! Which line of code has opened an fd: from registers and a copy of the stack to functions, files, lines.
//!
//! All of it happens on a thread of its own, which is started when there is something to do, and whatever is
//! read of files that traced processes have mapped in a process of its own, which that thread asks:
//!
//! ```text
//! StackRecord → Stacks::push ┬→ image (what the process has mapped) → reader: unwind → trace, interned
//!               Stacks::ask ─┘→ Resolver::stack → reader: symbols, where somebody wants to read them
//! ```
//!
//! * [`stack`]: the result; `path`: when two of them are the same code path.
//! * `bounds`: all bounds on what is read, kept and waited for.
//! * `image`, `module`: what a process has mapped, and the files behind it, held: a process that was known
//!   before it ended is as good as one that runs.
//! * `script`: what an interpreter runs.
//! * [`perf_map`]: names of code that a process has made while it ran.
//! * `interpreted`: the frames of interpreters, beside the stack.
//! * `seeking`: whose interpreter is looked for before its first stack comes.
//! * `program`: what a process executes, as the kernel has told it: enough for one that was gone at once.
//! * [`reader`]: the process that reads those files. In it:
//! * `elf`: sections and segments.
//! * `unwind`: from a copied stack to return addresses, by `.eh_frame`.
//! * `imports`: which files use select(2).
//! * [`python`]: from `CPython`'s code objects to functions and lines.
//! * `go`: names in Go programs that have been stripped.
//! * `sigbus`: files that become shorter while they are read.
//! * `symbols`: from addresses to functions and lines (feature `symbols`).
//! * [`resolver`]: all of these together.

mod bounds;
mod elf;
mod go;
mod image;
mod imports;
mod interpreted;
mod module;
mod path;
pub mod perf_map;
mod program;
pub mod python;
pub mod reader;
pub mod resolver;
pub(in crate::enrich) mod script;
mod seeking;
mod sigbus;
pub mod stack;
#[cfg_attr(not(feature = "symbols"), path = "no_symbols.rs")]
mod symbols;
mod unwind;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use fdtrace_common::{python::PythonFrame, stack::StackRecord};
use log::warn;

use self::resolver::Resolver;
pub use self::{
    interpreted::Teller,
    path::{CodePath, Detail},
    program::Program,
    stack::{Frame, Runtime, Stack},
};
use crate::{engine::opener::Sequence, timers::Timer};

/// Bytes of stacks that may wait for the thread; further ones are dropped and counted.
const WAITING: usize = 8 << 20;

/// When nothing has been asked for so long, what can be read again is let go of.
const IDLE: Timer = Timer::seconds(60);

/// A stack as the kernel has copied it.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Which one.
    pub sequence: Sequence,
    /// Whose, with its registers.
    pub head: StackRecord,
    /// The stack, from the stack pointer upwards.
    pub bytes: Box<[u8]>,
    /// The frames of an interpreter, the innermost first.
    pub python: Box<[PythonFrame]>,
}

impl Raw {
    /// Bytes in memory.
    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.python)
    }
}

type Question = Box<dyn FnOnce(&mut Resolver) + Send>;

/// What the thread is asked for, in this order.
enum Request {
    Stack(Box<Raw>),
    Program(u32, Program),
    Known(u32),
    Seek(u32),
    Gone(Vec<Sequence>),
    /// A question, and how long names are read for it.
    Ask(Question, Duration),
}

/// The near end of the thread that resolves stacks.
#[derive(Default)]
pub struct Stacks {
    thread: Option<Running>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    dropped: u64,
    is_elsewhere: bool,
    teller: Option<Teller>,
}

/// What that thread has been asked for.
#[derive(Clone, Debug)]
pub struct Awaited<T> {
    answer: Arc<Mutex<Answer<T>>>,
    /// Nobody waits for it any longer than that.
    until: Instant,
}

#[derive(Debug)]
enum Answer<T> {
    Coming(Receiver<T>),
    /// `None`: the thread has failed, or took too long.
    There(Option<T>),
}

impl<T: Clone> Awaited<T> {
    /// Waits for it, where it is not there yet, for a bounded time since it was asked for. `None`: the thread has
    /// failed, or takes too long.
    #[must_use]
    pub fn wait(&self) -> Option<T> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Answer::Coming(receiver) = &*answer {
            let left = self.until.saturating_duration_since(Instant::now());
            *answer = Answer::There(receiver.recv_timeout(left).ok());
        }
        match &*answer {
            Answer::There(there) => there.clone(),
            Answer::Coming(_) => None,
        }
    }
}

impl<T> PartialEq for Awaited<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.answer, &other.answer)
    }
}

impl<T> Eq for Awaited<T> {}

/// A stack that is being resolved; `None`: it is not known any more.
pub type AwaitedStack = Awaited<Option<Arc<Stack>>>;

/// A stack, and how many of those that were looked at it has opened.
pub type Counted = (usize, Arc<Stack>);

/// Of some stacks those that are the most frequent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frequent {
    /// These, the most frequent first. What looks alike in a line of text is one.
    pub most: Vec<Counted>,
    /// How many of the stacks are none of these.
    pub others: usize,
}

/// The most frequent of some stacks, when they have been resolved.
pub type AwaitedStacks = Awaited<Frequent>;

struct Running {
    requests: Sender<Request>,
    /// Nothing comes, and nobody is there any more when the thread has ended.
    ended: Receiver<()>,
}

impl Stacks {
    /// Nothing is started before there is something to do.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }

    /// For the stacks of a recording, which come resolved: what processes there are here is none of its
    /// business, whatever is in it.
    #[must_use]
    pub fn elsewhere() -> Self {
        Self {
            thread: None,
            waiting: Arc::default(),
            dropped: 0,
            is_elsewhere: true,
            teller: None,
        }
    }

    /// Do they come from a recording?
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Who tells kernel programs of interpreters that are found.
    pub fn tell_by(&mut self, teller: Teller) {
        self.teller = Some(teller);
    }

    /// Has there been anything to do?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.is_some()
    }

    /// Hands a stack over. Never blocks; too many are dropped and counted.
    pub fn push(&mut self, raw: Raw) {
        if self.is_elsewhere {
            return;
        }
        let size = raw.size();
        if self.waiting.load(Ordering::Relaxed) + size > WAITING {
            self.dropped += 1;
            return;
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        self.send(Request::Stack(Box::new(raw)));
    }

    /// A process executes another program from here on.
    pub fn executed(&mut self, tgid: u32, program: Program) {
        let size = program.size();
        if self.is_elsewhere || self.waiting.load(Ordering::Relaxed) + size > WAITING {
            return;
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        self.send(Request::Program(tgid, program));
    }

    /// Has a process looked at, while it is there: it may be gone when its stacks come.
    pub fn know(&mut self, tgid: u32) {
        if !self.is_elsewhere {
            self.send(Request::Known(tgid));
        }
    }

    /// Has the interpreter of a process looked for, if it runs one: it may be about to begin.
    pub fn seek(&mut self, tgid: u32) {
        if !self.is_elsewhere {
            self.send(Request::Seek(tgid));
        }
    }

    /// Waits until those have been looked at once, for a bounded time.
    pub fn wait_for_sought(&mut self) {
        if self.is_running() {
            let looked = self.answer_within(|_| (), bounds::NAMING, bounds::SEEKING);
            // Who is not known by then is known a moment later.
            let _ = looked.wait();
        }
    }

    /// These stacks belong to nothing any more.
    pub fn forget(&mut self, gone: Vec<Sequence>) {
        if !gone.is_empty() && self.thread.is_some() {
            self.send(Request::Gone(gone));
        }
    }

    /// Does something with all stacks that were handed over before. Where the thread cannot be had, which
    /// has been told, it is done at once, and no stack is known.
    pub fn ask(&mut self, question: impl FnOnce(&mut Resolver) + Send + 'static) {
        self.send(Request::Ask(Box::new(question), bounds::NAMING));
    }

    /// The same, for the sake of what comes of it.
    pub fn answer<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&mut Resolver) -> T + Send + 'static,
    ) -> Awaited<T> {
        self.answer_within(question, bounds::NAMING, bounds::WAIT)
    }

    /// The same for many stacks at once, where no alarm waits.
    pub fn answer_in_time<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&mut Resolver) -> T + Send + 'static,
    ) -> Awaited<T> {
        self.answer_within(question, bounds::NAMING_ALL, bounds::WAIT_ALL)
    }

    fn answer_within<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&mut Resolver) -> T + Send + 'static,
        naming: Duration,
        wait: Duration,
    ) -> Awaited<T> {
        let (sender, receiver) = channel();
        let question = move |resolver: &mut Resolver| {
            // Nobody may be waiting any more.
            let _ = sender.send(question(resolver));
        };
        self.send(Request::Ask(Box::new(question), naming));
        Awaited {
            answer: Arc::new(Mutex::new(Answer::Coming(receiver))),
            until: Instant::now() + wait,
        }
    }

    /// A stack that was pushed before, when it has been resolved.
    pub fn later(&mut self, sequence: Sequence) -> AwaitedStack {
        self.answer(move |resolver| resolver.stack(sequence))
    }

    /// The most frequent of stacks that were pushed before, so many at most.
    pub fn most_frequent(&mut self, sequences: Vec<Sequence>, at_most: usize) -> AwaitedStacks {
        self.answer(move |resolver| resolver.most_frequent(&sequences, at_most))
    }

    /// Stacks dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until everything that was asked for is done, for a bounded time.
    pub fn finish(&mut self) {
        if let Some(Running { requests, ended }) = self.thread.take() {
            drop(requests);
            if ended.recv_timeout(bounds::WAIT) == Err(RecvTimeoutError::Timeout) {
                warn!("some stacks have not been resolved: reading programs takes too long");
            }
        }
    }

    fn send(&mut self, request: Request) {
        let Err(request) = self.try_send(request) else {
            return;
        };
        // One that has failed takes what it knew along; what comes is resolved by another.
        self.thread = None;
        self.waiting = Arc::default();
        if let Err(Request::Ask(question, _)) = self.try_send(request) {
            question(&mut Resolver::default());
        }
    }

    fn try_send(&mut self, request: Request) -> Result<(), Request> {
        if self.thread.is_none() {
            self.thread = Running::start(&self.waiting, self.teller.clone());
        }
        match &self.thread {
            Some(running) => running.requests.send(request).map_err(|unsent| unsent.0),
            None => Err(request),
        }
    }
}

impl Running {
    fn start(waiting: &Arc<AtomicUsize>, teller: Option<Teller>) -> Option<Self> {
        let (requests, queue) = channel();
        let (end, ended) = channel();
        let waiting = Arc::clone(waiting);
        let thread = thread::Builder::new()
            .name("fdtrace-stacks".to_owned())
            .spawn(move || {
                // Who sees the end can ask nothing any more: the queue is dropped before.
                let _end: Sender<()> = end;
                let queue = queue;
                work(&queue, &waiting, teller);
            });
        match thread {
            // It ends by itself when nobody can ask any more: nobody waits for that.
            Ok(_) => Some(Self { requests, ended }),
            Err(error) => {
                warn!("no stacks are resolved: starting a thread: {error}");
                None
            }
        }
    }
}

fn work(queue: &Receiver<Request>, waiting: &AtomicUsize, teller: Option<Teller>) {
    let mut resolver = Resolver::telling(teller);
    loop {
        let seeking = resolver.look_around();
        let wait = seeking.unwrap_or(IDLE.duration());
        let request = match queue.recv_timeout(wait) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) if seeking.is_some() => continue,
            Err(RecvTimeoutError::Timeout) => {
                resolver.rest();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match request {
            Request::Stack(raw) => {
                let size = raw.size();
                resolver.take(&raw);
                release(waiting, size);
            }
            Request::Program(tgid, program) => {
                release(waiting, program.size());
                resolver.executed(tgid, program);
            }
            Request::Known(tgid) => resolver.know(tgid),
            Request::Seek(tgid) => resolver.seek(tgid),
            Request::Gone(gone) => resolver.forget(&gone),
            Request::Ask(question, naming) => {
                resolver.begin_question(naming);
                question(&mut resolver);
            }
        }
    }
}

/// The first one may have been counted for a thread that had failed.
fn release(waiting: &AtomicUsize, size: usize) {
    let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
        Some(waiting.saturating_sub(size))
    });
}

#[cfg(test)]
mod tests;
