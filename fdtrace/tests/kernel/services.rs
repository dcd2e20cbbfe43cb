//! Real services at their limit, as their operators bring them there: what is wrong, who holds it, what to type, and
//! what typing it does.

mod java;
mod mariadb;
mod nginx;
mod redis;
mod rsyslog;
mod supervisord;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Setting, ensure, programs::clean, remedy::typed, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if setting.is_guest {
        // A guest has busybox and nothing else.
        return Vec::new();
    }
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("services::{name}"), move || test(&setting))
    };
    vec![
        test("nginx_serves_more_than_it_may", nginx::serves),
        test("nginx_waits_for_what_is_behind_it", nginx::proxy),
        test("java_closes_no_connection", java::close_wait),
        test("mariadb_opens_tables", mariadb::opens_tables),
        test("redis_has_its_limit_lowered", redis::lowered),
        test("rsyslog_keeps_deleted_files", rsyslog::deleted_files),
        test("supervisord_starts_a_leak", supervisord::starts_a_leak),
    ]
}

/// How long a service may take to come up, or to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running service with a folder of its own; it ends when this is dropped.
struct Service {
    child: Child,
    folder: Folder,
}

/// A folder that is gone when this is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("fdtrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A file in it.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Service {
    /// Starts a program below this limit (options of `ulimit`), which inherits nothing but 0, 1 and 2.
    fn start(folder: Folder, limit: &str, program: &[&str]) -> Result<Self, String> {
        let limited = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        let child = clean("sh")
            .args(["-c", &limited])
            .args(program)
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program:?}: {error}"))?;
        Ok(Self { child, folder })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it does what is asked of it. That a service comes up is no event that could be waited for.
    fn wait_until(&mut self, mut is_up: impl FnMut(&Path) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !is_up(&self.folder.0) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the service ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err("the service never came up".to_owned());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The first report with this verdict of a call of the process that failed.
fn judged(tracer: &Tracer, pid: u32, verdict: &str) -> Result<Value, String> {
    tracer.wait_for(|object| {
        object["type"] == "exhausted"
            && object["pid"] == pid
            && object["verdict"]["kind"] == verdict
    })
}

/// What a report says to type at once.
fn now(report: &Value) -> Option<&str> {
    let remedies = report["remedy"].as_array()?;
    let now = remedies.iter().find(|remedy| remedy["when"] == "now")?;
    now["command"].as_str()
}

/// Types it.
fn type_now(report: &Value) -> Result<(), String> {
    let command = now(report).ok_or_else(|| format!("nothing to type: {report:#}"))?;
    typed(command)
}

/// `CAP_SYS_RESOURCE`, which root lacks in many containers.
fn may_raise_hard_limits() -> bool {
    let capabilities = rustix::thread::capabilities(None);
    capabilities.is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_RESOURCE)
    })
}

/// A port of loopback that nobody has.
fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(|error| error.to_string())?.port())
}
