//! The command that is looked at from its first fd to its end.

use std::{
    ffi::OsString,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, ExitStatus},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use tokio::sync::Notify;

use crate::{
    child,
    commands::say,
    enrich::{
        lookup::{Looked, LookedProcess, Text},
        names::Named,
        process::user_of,
    },
    probe::cgroup,
};

/// A command that was started. It ends with this.
pub(super) struct Started {
    process: LookedProcess,
    pidfd: OwnedFd,
    name: Vec<u8>,
    ended: Arc<Notify>,
    status: Arc<OnceLock<Option<ExitStatus>>>,
    thread: Option<JoinHandle<()>>,
}

impl Started {
    /// Starts it; `None` where there is none. It inherits nothing but standard input, output and error, and
    /// has the priority and the limits that fdtrace was started with. To be called by a thread that stays.
    pub(super) fn start(command: &[OsString]) -> Result<Option<Self>> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(None);
        };
        let mut child = child::prepare(Command::new(program).args(arguments))
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        // Before anybody waits for it: one that has ended already is there until then.
        let pid = child.id();
        let process = LookedProcess {
            select: None,
            pid,
            uid: user_of(pid),
            cgroup: cgroup_of(pid).map(Text),
            named: Named::default(),
            lineage: None,
            ended_ns: None,
        };
        let mut started = Self {
            process,
            pidfd: child::pidfd(&child).context("waiting for the command")?,
            name: name_of(program),
            ended: Arc::new(Notify::new()),
            status: Arc::new(OnceLock::new()),
            thread: None,
        };
        let (ended, status) = (Arc::clone(&started.ended), Arc::clone(&started.status));
        let wait = move || {
            // Set once, here.
            let _ = status.set(child.wait().ok());
            ended.notify_one();
        };
        let thread = thread::Builder::new()
            .name("fdtrace-command".to_owned())
            .spawn(wait);
        started.thread = Some(thread.context("waiting for the command")?);
        Ok(Some(started))
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Whose it is and where it belongs, for when it has ended.
    pub(super) fn looked(&self) -> Looked {
        Looked {
            processes: vec![self.process.clone()],
            paths: Vec::new(),
        }
    }

    /// Its name, as the kernel would cut it.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns when it has ended; never where there is none.
    pub(super) async fn ended(started: Option<&Self>) {
        match started {
            Some(started) => started.ended.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Has it ended?
    pub(super) fn has_ended(&self) -> bool {
        self.status.get().is_some()
    }

    /// Has it ended with a failure? It is told.
    pub(super) fn has_failed(&self) -> bool {
        let status = self.status.get().copied().flatten();
        let failure = status.filter(|status| !status.success());
        if let Some(status) = failure {
            say(&format!("the command has failed: {status}"));
        }
        failure.is_some()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.has_ended() {
            child::end(&self.pidfd, None);
        }
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but that end.
            let _ = thread.join();
        }
    }
}

/// Its cgroup as the thread that writes would read it; this one starts the command, which is to keep its cgroup
/// namespace.
fn cgroup_of(pid: u32) -> Option<Vec<u8>> {
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            cgroup::read_from_root();
            cgroup::of_process(pid)
        });
        reader.join().ok().flatten()
    })
}

/// What the kernel names a process after: 15 bytes of the program's last component (`begin_new_exec` in
/// fs/exec.c).
fn name_of(program: &OsString) -> Vec<u8> {
    const COMM: usize = 15;
    let name = Path::new(program).file_name().unwrap_or(program);
    name.as_encoded_bytes().iter().take(COMM).copied().collect()
}
