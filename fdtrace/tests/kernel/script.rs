//! Scripts that interpreters run, and what fdtrace tells of the lines that they open fds in.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::{
    Setting, ensure,
    tracer::{self, Tracer},
};

/// A script that has said that it is ready, and ends with its standard input.
pub(crate) struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Script {
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut script = Self { child, output };
        let line = script.line()?;
        ensure(line.starts_with("ready"), || line.clone())?;
        Ok(script)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        Ok(line)
    }

    pub(crate) fn release(&mut self) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no stdin")?;
        stdin.write_all(b"\n").map_err(|error| error.to_string())
    }

    pub(crate) fn end(mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        self.child
            .wait()
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Traces what a process opens, with the stacks.
pub(crate) fn trace(setting: &Setting, pid: u32) -> Result<Tracer, String> {
    let mut command = tracer::command();
    // What census sees is never a dup.
    command.args(["trace", "--json", "--op", "open,dup", "--stacks", "always"]);
    command.args(["--backend", &setting.backend, "--pid", &pid.to_string()]);
    Tracer::start_command(command)
}

/// The frames of an event or a row, as text.
pub(crate) fn stack(object: &Value) -> Vec<&str> {
    let stack = object["stack"].as_array().map_or(&[][..], Vec::as_slice);
    stack.iter().filter_map(Value::as_str).collect()
}

/// Is it an event of an fd that has come?
pub(crate) fn is_new(object: &Value) -> bool {
    matches!(object["op"].as_str(), Some("open" | "dup"))
}
