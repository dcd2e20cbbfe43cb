//! The victim: one run of a gym scenario.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// What gym says of itself when it is done.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) pid: u64,
    pub(crate) tid: u64,
    pub(crate) comm: String,
    pub(crate) call: String,
    pub(crate) failures: u64,
    pub(crate) soft: u64,
    pub(crate) used: u64,
    /// What each fd is, from the scenario that opens one of every kind.
    pub(crate) kinds: BTreeMap<u64, String>,
    /// Files open, where the scenario tells them apart from numbers taken.
    pub(crate) open: u64,
    /// What most of the fds were when it ran out, from scenarios that are services.
    pub(crate) holder: Option<Holder>,
    /// How many of them leaked.
    pub(crate) operations: u64,
    /// How long that took, nanoseconds.
    pub(crate) ns: Option<u64>,
    /// Why the scenario cannot be had here.
    pub(crate) skipped: Option<String>,
    /// What else there is to know.
    pub(crate) note: Option<String>,
}

/// Fds that lead to the same.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) kind: String,
    /// `None`: each leads somewhere else, or there is nothing to tell.
    pub(crate) target: Option<String>,
    pub(crate) count: u64,
}

/// A victim that has been started.
pub(crate) struct Gym {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// The command that runs a scenario.
pub(crate) fn command(scenario: &str) -> Command {
    let mut command = Command::new(super::executable("FDTRACE_GYM", None));
    command.arg(scenario);
    command
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: &str, arguments: &[&str]) -> Result<Facts, String> {
    let mut command = command(scenario);
    command.args(arguments);
    Gym::start(command)?.finish()
}

impl Gym {
    /// Starts a victim that waits before it fails; with its process number.
    pub(crate) fn waiting<S: AsRef<OsStr>>(
        scenario: &str,
        arguments: &[S],
    ) -> Result<(Self, u32), String> {
        let mut command = command(scenario);
        command.arg("--wait").args(arguments);
        Self::start_waiting(command)
    }

    /// The same with a command of one's own, which ends up in gym.
    pub(crate) fn start_waiting(command: Command) -> Result<(Self, u32), String> {
        let mut gym = Self::start(command)?;
        let line = gym.line()?;
        let pid = line
            .strip_prefix("ready ")
            .and_then(|pid| pid.trim().parse().ok());
        let pid = pid.ok_or_else(|| format!("gym is not ready: {line:?}"))?;
        Ok((gym, pid))
    }

    /// Starts a victim.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("starting gym: {error}"))?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self {
            child,
            stdin,
            stdout,
        })
    }

    /// The process that was started, which may be a shell around gym.
    pub(crate) fn started(&self) -> u32 {
        self.child.id()
    }

    /// Lets a waiting victim go on.
    pub(crate) fn release(&mut self) -> Result<(), String> {
        self.stdin
            .write_all(b"\n")
            .map_err(|error| format!("releasing gym: {error}"))
    }

    /// Waits until a victim that holds still has said what it holds.
    pub(crate) fn held(&mut self) -> Result<Facts, String> {
        let line = self.line()?;
        facts(&line).ok_or_else(|| format!("not what gym says: {line:?}"))
    }

    /// Ends a victim that holds still.
    pub(crate) fn end(mut self) -> Result<(), String> {
        drop(self.stdin);
        let status = self
            .child
            .wait()
            .map_err(|error| format!("waiting for gym: {error}"))?;
        super::ensure(status.success(), || format!("gym ended with {status}"))
    }

    /// Waits for the victim's end.
    pub(crate) fn finish(mut self) -> Result<Facts, String> {
        drop(self.stdin);
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        let status = self
            .child
            .wait()
            .map_err(|error| format!("waiting for gym: {error}"))?;
        read.map_err(|error| format!("reading from gym: {error}"))?;
        if !status.success() {
            return Err(format!("gym ended with {status}: {line}"));
        }
        facts(&line).ok_or_else(|| format!("not what gym says: {line:?}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .map_err(|error| format!("reading from gym: {error}"))?;
        Ok(line)
    }
}

fn facts(line: &str) -> Option<Facts> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| value.get(name)?.as_u64();
    let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let kind = |(fd, kind): (&String, &Value)| Some((fd.parse().ok()?, kind.as_str()?.to_owned()));
    let kinds = value.get("kinds").and_then(Value::as_object);
    Some(Facts {
        pid: number("pid")?,
        tid: number("tid")?,
        comm: text("comm")?,
        call: text("call")?,
        failures: number("failures")?,
        soft: number("soft")?,
        used: number("used")?,
        kinds: kinds.into_iter().flatten().filter_map(kind).collect(),
        open: number("open").or_else(|| number("used"))?,
        holder: value.get("holder").and_then(|holder| {
            Some(Holder {
                kind: holder["kind"].as_str()?.to_owned(),
                target: holder["target"].as_str().map(str::to_owned),
                count: holder["count"].as_u64()?,
            })
        }),
        operations: number("operations").unwrap_or_default(),
        ns: number("ns"),
        skipped: text("skipped"),
        note: text("note"),
    })
}
