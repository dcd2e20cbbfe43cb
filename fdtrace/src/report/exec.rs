//! `--exec`: a command for each fact, with the fact as JSON on its standard input. Bounded in time and
//! number, and whatever becomes of it, the stream goes on.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
    time::Timespec,
};

/// Commands that run at the same time.
const AT_ONCE: usize = 4;
/// Facts that wait for one of them to end; further ones are dropped and counted.
const WAITING: usize = 64;
/// A command that runs for longer is ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command for each fact that it is handed.
pub struct Exec {
    facts: SyncSender<Vec<u8>>,
    threads: Vec<JoinHandle<()>>,
    failures: Failures,
    dropped: u64,
}

/// What went wrong, and how often.
type Failures = Arc<Mutex<BTreeMap<String, u64>>>;

impl Exec {
    /// Nothing runs yet. `command` is for sh.
    pub fn start(command: &str, patience: Option<Duration>) -> io::Result<Self> {
        let (facts, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let failures = Failures::default();
        let threads = (0..AT_ONCE).map(|_| {
            let (waiting, failures) = (Arc::clone(&waiting), Arc::clone(&failures));
            let command = command.to_owned();
            let patience = patience.unwrap_or(PATIENCE);
            thread::Builder::new()
                .name("fdtrace-exec".to_owned())
                .spawn(move || run_all(&command, patience, &waiting, &failures))
        });
        Ok(Self {
            facts,
            threads: threads.collect::<io::Result<_>>()?,
            failures,
            dropped: 0,
        })
    }

    /// Hands a fact over, as a line of JSON. Never waits.
    pub fn run(&mut self, json: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.facts.try_send(json) {
            self.dropped += 1;
        }
    }

    /// Waits until all have ended, which they do in time; what went wrong, in words.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        drop(self.facts);
        for thread in self.threads {
            // One that has failed has nothing to say.
            let _ = thread.join();
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let times = |count: u64| if count == 1 { "once" } else { "times" };
        let told = failures.iter().map(|(failure, count)| match count {
            1 => format!("--exec: {failure}"),
            count => format!("--exec: {failure}, {count} {}", times(*count)),
        });
        let dropped = (self.dropped > 0).then(|| {
            format!(
                "--exec: not run for {} facts: there were more than its commands could take",
                self.dropped
            )
        });
        told.chain(dropped).collect()
    }
}

fn run_all(
    command: &str,
    patience: Duration,
    waiting: &Mutex<Receiver<Vec<u8>>>,
    failures: &Mutex<BTreeMap<String, u64>>,
) {
    loop {
        let fact = {
            let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.recv()
        };
        let Ok(fact) = fact else {
            return;
        };
        if let Err(failure) = run_one(command, patience, &fact) {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures.entry(failure).or_default() += 1;
        }
    }
}

/// Runs the command once; what went wrong, in words.
fn run_one(command: &str, patience: Duration, fact: &[u8]) -> Result<(), String> {
    let mut child = start(command, fact).map_err(|error| format!("cannot be started: {error}"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = wait(&mut child, pid, patience);
    if !ended.unwrap_or(true) {
        // With whatever it has started itself.
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = child.wait();
        return Err(format!(
            "has run for {} s and was ended",
            patience.as_secs()
        ));
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("failed: {status}")),
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}

/// Its input is a file in memory: a command that does not read it cannot hold anybody up. What it prints
/// goes to stderr, for stdout belongs to the facts.
fn start(command: &str, fact: &[u8]) -> io::Result<Child> {
    let mut input = File::from(memfd_create("fact", MemfdFlags::CLOEXEC)?);
    input.write_all(fact)?;
    input.rewind()?;
    let output: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
    Command::new("sh")
        .arg("-c")
        .arg(command)
        .process_group(0)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .spawn()
}

/// Has it ended in time?
fn wait(child: &mut Child, pid: Option<Pid>, patience: Duration) -> io::Result<bool> {
    let Some(pid) = pid else {
        return Ok(child.wait().is_ok());
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn failures_are_told_once_with_their_number() {
        let mut exec = Exec::start("exit 3", None).unwrap();
        for _ in 0..5 {
            exec.run(b"{}\n".to_vec());
        }
        assert_eq!(exec.finish(), ["--exec: failed: exit status: 3, 5 times"]);
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
}
