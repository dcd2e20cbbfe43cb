//! Servers in C, built where the tests run, that stand for programs as they are shipped.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/victim/server.c");

/// A way to build the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waits {
    /// Fortified, as distributions build: it aborts with an fd that its sets have no room for.
    Select,
    Epoll,
}

/// Is there a compiler? Guests have none.
pub(crate) fn can_build() -> bool {
    Path::new("/usr/bin/gcc").exists() && Path::new(SOURCE).exists()
}

fn built(waits: Waits) -> Result<PathBuf, String> {
    let name = format!("fdtrace-server-{waits:?}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut command = Command::new("gcc");
    command.args(["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-o"]);
    command.arg(&path).arg(SOURCE);
    if let Waits::Select = waits {
        command.arg("-DUSE_SELECT");
    }
    let status = command.status().map_err(|error| format!("gcc: {error}"))?;
    super::ensure(status.success(), || format!("gcc ended with {status}"))?;
    Ok(path)
}

/// One that runs; it ends with the value.
pub(crate) struct Server {
    pub(crate) child: Child,
    port: u16,
    program: PathBuf,
}

impl Server {
    /// Starts it at a soft limit; `before`: what a shell executes it with, in its own process.
    pub(crate) fn start(
        waits: Waits,
        soft: u32,
        before: &str,
        argument: &str,
    ) -> Result<Self, String> {
        let program = built(waits)?;
        let mut command = super::programs::clean("sh");
        let before = if before.is_empty() { "exec" } else { before };
        let script = format!("ulimit -Sn {soft}; {before} \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(&program).arg(argument);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(|error| format!("reading from the server: {error}"))?;
        let port = line
            .strip_prefix("ready ")
            .and_then(|port| port.trim().parse().ok());
        let mut server = Self {
            child,
            port: 0,
            program,
        };
        server.port = port.ok_or_else(|| format!("the server is not ready: {line:?}"))?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// So many clients, connected for as long as they are held: the kernel has accepted them.
    pub(crate) fn clients(&self, count: usize) -> Result<Vec<TcpStream>, String> {
        let connect = |_| TcpStream::connect(("127.0.0.1", self.port));
        let clients: Result<_, _> = (0..count).map(connect).collect();
        clients.map_err(|error| format!("connecting: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has looked at.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}

/// Waits until a process has so many fds open, or more.
pub(crate) fn until_open(pid: u32, count: usize) -> Result<(), String> {
    let folder = format!("/proc/{pid}/fd");
    until(|| {
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
        Ok(entries.count() >= count)
    })
}

/// Asks until the answer is yes.
pub(crate) fn until(mut reached: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let end = Instant::now() + Duration::from_mins(1);
    while !reached()? {
        super::ensure(Instant::now() < end, || "no end of waiting".to_owned())?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>, String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text
        .split_whitespace()
        .filter_map(|it| it.parse().ok())
        .collect())
}
