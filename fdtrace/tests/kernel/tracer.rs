//! fdtrace under test: started with `--json`, its objects collected as they come.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here takes long on real machines; emulated ones share two cores, and attaching waits there for
/// every busy thread to leave the kernel.
const PATIENCE: Duration = Duration::from_mins(3);

/// The command that runs fdtrace.
pub(crate) fn command() -> Command {
    Command::new(super::executable(
        "FDTRACE_BIN",
        option_env!("CARGO_BIN_EXE_fdtrace"),
    ))
}

/// A running `fdtrace --json`.
pub(crate) struct Tracer {
    child: Running,
    seen: Arc<Seen>,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<()>,
}

/// A process that does not outlive the value: a test that fails leaves none to the next ones.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has been waited for already, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Default)]
struct Seen {
    objects: Mutex<Vec<Value>>,
    grew: Condvar,
    said: Mutex<String>,
    said_more: Condvar,
}

impl Seen {
    fn objects(&self) -> MutexGuard<'_, Vec<Value>> {
        self.objects
            .lock()
            .expect("no test panics while it holds this")
    }

    fn said(&self) -> MutexGuard<'_, String> {
        self.said
            .lock()
            .expect("no test panics while it holds this")
    }
}

/// How a tracer ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) objects: Vec<Value>,
    pub(crate) stderr: String,
}

impl Tracer {
    /// Starts fdtrace with these arguments and waits until it is armed.
    pub(crate) fn start(backend: &str, arguments: &[&str]) -> Result<Self, String> {
        let mut command = command();
        command
            .args(["--json", "--backend", backend])
            .args(arguments);
        Self::start_command(command)
    }

    /// The same with a command of one's own.
    pub(crate) fn start_command(mut command: Command) -> Result<Self, String> {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("starting fdtrace: {error}"))?;
        let seen = Arc::new(Seen::default());
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let stdout = thread::spawn({
            let seen = Arc::clone(&seen);
            move || collect(stdout, &seen)
        });
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let (armed, is_armed) = mpsc::channel();
        let stderr = thread::spawn({
            let seen = Arc::clone(&seen);
            move || listen(stderr, &armed, &seen)
        });
        let tracer = Self {
            child: Running(child),
            seen,
            stdout,
            stderr,
        };
        // The channel closes when fdtrace ends before it was armed.
        if is_armed.recv_timeout(PATIENCE).is_err() {
            let ended = tracer.stop()?;
            return Err(format!(
                "fdtrace did not start: {}: {}",
                ended.status, ended.stderr
            ));
        }
        Ok(tracer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Bytes of memory of its own that it has now.
    pub(crate) fn memory(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).ok_or(status)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.0.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.ok_or("no pid")?, signal).map_err(|error| format!("signalling: {error}"))
    }

    /// Waits for an object.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut objects = self.seen.objects();
        loop {
            if let Some(object) = objects.iter().find(|object| wanted(object)) {
                return Ok(object.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("never seen; what was: {:#?}", objects.last()));
            }
            objects = self
                .seen
                .grew
                .wait_timeout(objects, left)
                .expect("as above")
                .0;
        }
    }

    /// Has there been such an object?
    pub(crate) fn has_seen(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.seen.objects().iter().any(wanted)
    }

    /// Waits until all that it has said so far is enough.
    pub(crate) fn wait_until(&self, enough: impl Fn(&[Value]) -> bool) -> Result<(), String> {
        let objects = self.seen.objects();
        let is_less = |objects: &mut Vec<Value>| !enough(objects);
        let waited = self
            .seen
            .grew
            .wait_timeout_while(objects, PATIENCE, is_less);
        let (objects, timeout) = waited.expect("as above");
        if timeout.timed_out() {
            return Err(format!("never enough; the last was: {:#?}", objects.last()));
        }
        Ok(())
    }

    /// The newest of the objects that are wanted, for who explains what went wrong.
    pub(crate) fn last(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let objects = self.seen.objects();
        let wanted = objects.iter().rev().filter(|object| wanted(object));
        wanted.take(count).map(Value::to_string).collect()
    }

    /// Waits until stderr says this.
    pub(crate) fn wait_until_said(&self, words: &str) -> Result<(), String> {
        let said = self.seen.said();
        let has_not_said = |said: &mut String| !said.contains(words);
        let waited = self
            .seen
            .said_more
            .wait_timeout_while(said, PATIENCE, has_not_said);
        let (said, timeout) = waited.expect("as above");
        if timeout.timed_out() {
            return Err(format!("never said {words:?}, but: {said}"));
        }
        Ok(())
    }

    /// Everything said so far of a process's exhaustions.
    pub(crate) fn exhausted(&self, pid: u64) -> Vec<Value> {
        of_process(&self.seen.objects(), pid)
    }

    /// Ctrl-C, then all that it said.
    pub(crate) fn stop(mut self) -> Result<Ended, String> {
        let pid = i32::try_from(self.child.0.id())
            .ok()
            .and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = kill_process(pid.ok_or("no pid")?, Signal::INT);
        let status = self
            .child
            .0
            .wait()
            .map_err(|error| format!("waiting for fdtrace: {error}"))?;
        self.ended(status)
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Result<Ended, String> {
        let status = self
            .child
            .0
            .wait()
            .map_err(|error| format!("waiting for fdtrace: {error}"))?;
        self.ended(status)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) -> Result<Ended, String> {
        self.child
            .0
            .kill()
            .map_err(|error| format!("killing fdtrace: {error}"))?;
        let status = self
            .child
            .0
            .wait()
            .map_err(|error| format!("waiting for fdtrace: {error}"))?;
        self.ended(status)
    }

    fn ended(self, status: ExitStatus) -> Result<Ended, String> {
        self.stdout
            .join()
            .map_err(|_| "fdtrace wrote something that is no JSON".to_owned())?;
        self.stderr
            .join()
            .map_err(|_| "reading stderr".to_owned())?;
        let objects = self.seen.objects().clone();
        let stderr = self.seen.said().clone();
        Ok(Ended {
            status,
            objects,
            stderr,
        })
    }
}

/// The `exhausted` objects of a process.
pub(crate) fn of_process(objects: &[Value], pid: u64) -> Vec<Value> {
    let of_process = |object: &&Value| object["type"] == "exhausted" && object["pid"] == pid;
    objects.iter().filter(of_process).cloned().collect()
}

/// How many failures these objects stand for.
pub(crate) fn failures(objects: &[Value]) -> u64 {
    objects
        .iter()
        .map(|object| 1 + object["repeats"].as_u64().unwrap_or(0))
        .sum()
}

fn collect(stdout: impl Read, seen: &Seen) {
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("UTF-8");
        let object = serde_json::from_str(&line).expect("JSON");
        seen.objects().push(object);
        seen.grew.notify_all();
    }
}

fn listen(stderr: impl Read, armed: &mpsc::Sender<()>, seen: &Seen) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let is_armed = line.contains("Hit Ctrl-C");
        let mut said = seen.said();
        said.push_str(&line);
        said.push('\n');
        drop(said);
        seen.said_more.notify_all();
        if is_armed {
            let _ = armed.send(());
        }
    }
}
