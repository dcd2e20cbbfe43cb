//! `--exec`: a command for each fact, with the fact as JSON on its standard input. Bounded in time and
//! number, and whatever becomes of it, the stream goes on.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Seek, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::Pid,
};

use super::say::say;
use crate::child;

/// Commands that run at the same time.
const AT_ONCE: usize = 4;
/// Facts that wait for one of them to end; further ones are dropped and counted.
const WAITING: usize = 64;
/// A command that runs for longer is ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same of one that is running when fdtrace ends.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// Runs a command for each fact that it is handed.
pub struct Exec {
    shared: Arc<Shared>,
    /// Closed when fdtrace ends: who waits for a command sees it.
    open: io::PipeWriter,
    threads: Vec<JoinHandle<()>>,
    dropped: u64,
}

/// What the threads have in common.
struct Shared {
    command: String,
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
    /// Hung up when fdtrace ends.
    open: OwnedFd,
    tell: fn(&str),
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    running: usize,
    /// No more come.
    is_over: bool,
    /// What went wrong, and how often.
    failures: BTreeMap<String, u64>,
}

impl Exec {
    /// Nothing runs yet. `command` is for sh.
    pub fn start(command: &str, patience: Option<Duration>) -> io::Result<Self> {
        Self::telling(command, patience, say)
    }

    fn telling(command: &str, patience: Option<Duration>, tell: fn(&str)) -> io::Result<Self> {
        let (hung_up, open) = io::pipe()?;
        let shared = Arc::new(Shared {
            command: command.to_owned(),
            patience: patience.unwrap_or(PATIENCE),
            state: Mutex::default(),
            changed: Condvar::new(),
            open: hung_up.into(),
            tell,
        });
        let threads = (0..AT_ONCE).map(|_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("fdtrace-exec".to_owned())
                .spawn(move || shared.run_all())
        });
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
            shared,
            open,
            dropped: 0,
        })
    }

    /// Hands a fact over, as a line of JSON. Never waits: where too many are waiting it is dropped and counted.
    pub fn run(&mut self, json: Vec<u8>) {
        let mut state = self.shared.state();
        if state.waiting.len() < WAITING {
            state.waiting.push_back(json);
            self.shared.changed.notify_all();
        } else {
            self.dropped += 1;
        }
    }

    /// The same for facts that can wait: none is dropped.
    pub fn run_each(&self, json: Vec<u8>) {
        let state = self.shared.state();
        let mut state = self
            .shared
            .wait(state, |state| state.waiting.len() >= WAITING);
        state.waiting.push_back(json);
        self.shared.changed.notify_all();
    }

    /// Waits until all that was handed over has been done, each in its time; what went wrong, in words.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        drop(self.shared.wait(self.shared.state(), |state| {
            state.running > 0 || !state.waiting.is_empty()
        }));
        self.end()
    }

    /// Starts none of those that wait for others to end, and gives the running ones little time; what went
    /// wrong, in words.
    #[must_use]
    pub fn end(self) -> Vec<String> {
        let unstarted = {
            let mut state = self.shared.state();
            state.is_over = true;
            // Those for which there is a thread wait for nothing but its turn.
            let kept = AT_ONCE.saturating_sub(state.running);
            let unstarted = state.waiting.len().saturating_sub(kept);
            state.waiting.truncate(kept);
            unstarted
        };
        drop(self.open);
        self.shared.changed.notify_all();
        for thread in self.threads {
            // One that has failed has nothing to say.
            let _ = thread.join();
        }
        let state = self.shared.state();
        let repeated = state.failures.iter().filter(|(_, count)| **count > 1);
        let repeated = repeated.map(|(failure, count)| format!("--exec: {failure}, {count} times"));
        let dropped = (self.dropped > 0).then(|| {
            format!(
                "--exec: not run for {} facts: there were more than its commands could take",
                self.dropped
            )
        });
        let unstarted = (unstarted > 0)
            .then(|| format!("--exec: not run for the last {unstarted} facts: fdtrace has ended"));
        repeated.chain(dropped).chain(unstarted).collect()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        is_early: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let state = self.changed.wait_while(state, |state| is_early(state));
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs commands until there are no more facts.
    fn run_all(&self) {
        loop {
            let state = self.state();
            let mut state = self.wait(state, |state| state.waiting.is_empty() && !state.is_over);
            let Some(fact) = state.waiting.pop_front() else {
                return;
            };
            state.running += 1;
            drop(state);
            self.changed.notify_all();
            let outcome = self.run_one(&fact);
            self.state().running -= 1;
            self.changed.notify_all();
            if let Err(failure) = outcome {
                self.count(&failure);
            }
        }
    }

    /// The first of its kind is reported at once.
    fn count(&self, failure: &str) {
        let mut state = self.state();
        let count = state.failures.entry(failure.to_owned()).or_default();
        *count += 1;
        let is_first = *count == 1;
        drop(state);
        if is_first {
            (self.tell)(&format!("--exec: {failure}"));
        }
    }

    /// Runs the command once; what went wrong, in words.
    fn run_one(&self, fact: &[u8]) -> Result<(), String> {
        let child = start(&self.command, fact);
        let mut child = child.map_err(|error| format!("cannot be started: {error}"))?;
        let failure = self.wait_for(&child).unwrap_or_else(|error| {
            let _ = child.kill();
            Some(format!("cannot be waited for: {error}"))
        });
        let status = child.wait();
        match (failure, status) {
            (Some(failure), _) => Err(failure),
            (None, Ok(status)) if status.success() => Ok(()),
            (None, Ok(status)) => Err(in_words(status)),
            (None, Err(error)) => Err(format!("cannot be waited for: {error}")),
        }
    }

    /// Waits until it has ended, or ends it with whatever it has started itself: then it is said why.
    fn wait_for(&self, child: &Child) -> io::Result<Option<String>> {
        let pidfd = child::pidfd(child)?;
        let deadline = Instant::now() + self.patience;
        if child::ends_by(&pidfd, Some(&self.open), deadline)? {
            return Ok(None);
        }
        let is_over = Instant::now() < deadline;
        if is_over {
            let last = deadline.min(Instant::now() + LAST_PATIENCE);
            if child::ends_by(&pidfd, None, last)? {
                return Ok(None);
            }
        }
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        child::end(&pidfd, group);
        Ok(Some(if is_over {
            "was still running when fdtrace ended, and was ended".to_owned()
        } else {
            format!("ran for {} s and was ended", self.patience.as_secs())
        }))
    }
}

/// What sh says with its status (POSIX, 2.8.2 Exit Status for Commands).
fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(127) => "the command was not found (exit status 127)".to_owned(),
        Some(126) => "the command cannot be executed (exit status 126)".to_owned(),
        _ => format!("failed: {status}"),
    }
}

/// Its input is a file in memory: a command that does not read it cannot hold anybody up. What it prints
/// goes to stderr, for stdout belongs to the facts.
fn start(command: &str, fact: &[u8]) -> io::Result<Child> {
    let mut input = File::from(memfd_create("fact", MemfdFlags::CLOEXEC)?);
    input.write_all(fact)?;
    input.rewind()?;
    let output: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).process_group(0);
    child::prepare(&mut shell)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .spawn()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("fdtrace-exec-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn each_fact_comes_whole_on_standard_input() {
        let path = scratch("facts");
        let mut exec = Exec::start(&format!("cat >> {}", path.display()), None).unwrap();
        // More than a pipe holds.
        let large = [vec![b'x'; 100_000], b"\n".to_vec()].concat();
        exec.run(b"{\"v\":1}\n".to_vec());
        exec.run(large);
        assert_eq!(exec.finish(), Vec::<String>::new());
        let written = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(written.len(), 100_001 + 8);
    }

    /// What is told by the threads of the one test that uses it.
    static TOLD: Mutex<Option<Sender<String>>> = Mutex::new(None);

    #[test]
    fn a_failure_is_told_at_once_and_its_number_at_the_end() {
        let (sender, told) = channel();
        *TOLD.lock().unwrap() = Some(sender);
        let tell = |line: &str| {
            let told = TOLD.lock().unwrap();
            let _ = told.as_ref().unwrap().send(line.to_owned());
        };
        let command = "exec 2>/dev/null; no-such-command-anywhere";
        let mut exec = Exec::telling(command, None, tell).unwrap();
        exec.run(b"{}\n".to_vec());
        // Before anybody has said that this was all.
        let first = told.recv().unwrap();
        assert_eq!(first, "--exec: the command was not found (exit status 127)");
        for _ in 1..5 {
            exec.run(b"{}\n".to_vec());
        }
        assert_eq!(exec.finish(), [format!("{first}, 5 times")]);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn what_does_not_end_is_ended_with_its_children_and_facts_are_dropped_meanwhile() {
        let path = scratch("late");
        let command = format!("(sleep 60; touch {}) & sleep 60", path.display());
        let mut exec = Exec::start(&command, Some(Duration::from_millis(200))).unwrap();
        let start = Instant::now();
        for _ in 0..AT_ONCE + WAITING + 30 {
            exec.run(b"{}\n".to_vec());
        }
        let told = exec.finish();
        assert!(start.elapsed() < Duration::from_secs(30));
        assert!(told[0].contains("was ended"), "{told:?}");
        assert!(told[1].contains("not run for"), "{told:?}");
        assert!(!path.exists());
    }

    /// Waits until so many lines are in the file.
    fn wait_for_lines(path: &std::path::Path, wanted: usize) -> String {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= wanted {
                return text;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn at_the_end_none_is_started_any_more_and_the_running_ones_are_ended() {
        let path = scratch("end");
        let command = format!("echo $$ >> {}; exec sleep 600", path.display());
        let patience = Duration::from_mins(10);
        let mut exec = Exec::start(&command, Some(patience)).unwrap();
        for _ in 0..AT_ONCE + 10 {
            exec.run(b"{}\n".to_vec());
        }
        wait_for_lines(&path, AT_ONCE);
        let start = Instant::now();
        let told = exec.end();
        assert!(start.elapsed() < LAST_PATIENCE + Duration::from_secs(20));
        let running = wait_for_lines(&path, AT_ONCE);
        std::fs::remove_file(&path).unwrap();
        let expected = [
            "--exec: was still running when fdtrace ended, and was ended, 4 times",
            "--exec: not run for the last 10 facts: fdtrace has ended",
        ];
        assert_eq!(told, expected);
        assert_eq!(running.lines().count(), AT_ONCE);
        for pid in running.lines() {
            let path = format!("/proc/{pid}/cmdline");
            let left = std::fs::read(&path).unwrap_or_default();
            assert!(!left.starts_with(b"sleep\x00600"), "{pid} runs on");
        }
    }

    #[test]
    fn those_for_which_there_is_a_thread_are_run_at_the_end_too() {
        let path = scratch("idle");
        let mut exec = Exec::start(&format!("echo >> {}", path.display()), None).unwrap();
        for _ in 0..AT_ONCE {
            exec.run(b"{}\n".to_vec());
        }
        assert_eq!(exec.end(), Vec::<String>::new());
        assert_eq!(wait_for_lines(&path, AT_ONCE).len(), AT_ONCE);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn of_facts_that_can_wait_none_is_dropped() {
        let path = scratch("patient");
        let exec = Exec::start(&format!("echo >> {}", path.display()), None).unwrap();
        for _ in 0..AT_ONCE + 2 * WAITING {
            exec.run_each(b"{}\n".to_vec());
        }
        assert_eq!(exec.finish(), Vec::<String>::new());
        assert_eq!(wait_for_lines(&path, AT_ONCE + 2 * WAITING).len(), 132);
        std::fs::remove_file(&path).unwrap();
    }
}
