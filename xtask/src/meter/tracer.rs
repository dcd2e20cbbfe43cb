//! A tracer that runs beside the loads.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::plan::{Ready, Tracer};

/// How often it is asked whether it waits: of that there is no event.
const GLANCE: Duration = Duration::from_millis(2);
/// A compiler in an emulated machine takes a minute at most.
const PATIENCE: Duration = Duration::from_mins(2);
/// What it still does after that belongs to its start, and to no call: passes over the tables, memory that is
/// given back. fdtrace is done 70 ms later, in instructions.
const SETTLE: Duration = Duration::from_secs(1);
/// The system calls in which tracers wait for events: nanosleep, poll, epoll and their kin on x86-64.
const WAITS: [&str; 8] = ["7", "23", "35", "230", "232", "270", "271", "281"];

/// It, from when it was ready.
pub(crate) struct Running {
    name: String,
    child: Child,
    said: Receiver<String>,
    /// Time from its start until it was ready.
    pub(crate) start_took: Duration,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(tracer: &Tracer) -> Result<Self> {
        let (program, arguments) = tracer.command.split_first().context("an empty command")?;
        let start = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let said = listen(child.stderr.take().context("no stderr")?);
        let mut running = Self {
            name: tracer.name.clone(),
            child,
            said,
            start_took: Duration::ZERO,
        };
        match &tracer.ready {
            Ready::Said(words) => running.wait_for_words(words)?,
            _ => running.wait_until_it_waits()?,
        }
        running.start_took = start.elapsed();
        thread::sleep(SETTLE);
        Ok(running)
    }

    fn wait_for_words(&mut self, words: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut before = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(line) if line.contains(words) => return Ok(()),
                Ok(line) => before.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    bail!("{} never said {words:?}, but: {before}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} has ended: {before}", self.name)
                }
            }
        }
    }

    fn wait_until_it_waits(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let path = format!("/proc/{}/syscall", self.child.id());
        loop {
            if let Some(status) = self.child.try_wait()? {
                let said: Vec<String> = self.said.iter().collect();
                bail!("{} ended with {status}: {}", self.name, said.join("\n"));
            }
            let call = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let number = call.split_whitespace().next().unwrap_or_default();
            if WAITS.contains(&number) {
                return Ok(());
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                bail!(
                    "{} does not get to the point of waiting for events",
                    self.name
                );
            }
            thread::sleep(GLANCE);
        }
    }

    /// Bytes of memory that it has now.
    pub(crate) fn resident(&mut self) -> Result<u64> {
        if let Some(status) = self.child.try_wait()? {
            let said: Vec<String> = self.said.iter().collect();
            bail!(
                "{} ended with {status} under load: {}",
                self.name,
                said.join("\n")
            );
        }
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kilobytes.with_context(|| format!("{path} has no VmRSS"))? * 1024)
    }

    /// Ctrl-C, and the wait for its end; one that does not take it is killed.
    pub(crate) fn stop(self) -> Result<()> {
        let Self {
            name, mut child, ..
        } = self;
        let pid = child.id().to_string();
        signal("-INT", &pid)?;
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait().map(drop)));
        if let Ok(waited) = end.recv_timeout(PATIENCE) {
            return waited.context("waiting for a tracer");
        }
        signal("-KILL", &pid)?;
        bail!("{name} does not end when it is told to")
    }
}

fn signal(signal: &str, pid: &str) -> Result<()> {
    let status = Command::new("kill").args([signal, pid]).status();
    let status = status.context("cannot start kill")?;
    ensure!(status.success(), "kill {signal} {pid} ended with {status}");
    Ok(())
}

/// What it says on stderr, line by line; all of it is read, so that it never has to wait for a reader.
fn listen(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
