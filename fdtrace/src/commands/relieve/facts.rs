//! What /proc says of a process.

use std::{
    cell::OnceCell,
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use procfs::process::{LimitValue, Process as ProcProcess};
use rustix::{
    process::{Pid, PidfdFlags, pidfd_open},
    thread::CapabilitySet,
};

use super::look::Look;
use crate::{
    child,
    diagnose::relieve::{Limits, Subject},
    enrich::process::{is_kernel_thread, user_of},
    probe::cgroup,
};

/// Processes of a cgroup that are looked at for being near their limits.
const OTHERS: usize = 256;

/// A process, found, and held by a pidfd: whoever gets its number later is not mistaken for it.
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it was started, hundredths of a second since boot (field 22 of `proc_pid_stat(5)`).
    pub(super) started: u64,
    pub(super) cgroup: Option<Vec<u8>>,
    pub(super) comm: Vec<u8>,
    pidfd: OwnedFd,
    found: Instant,
    open_then: Option<u64>,
    end: OnceCell<End>,
}

/// The end of a process.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// When it was noticed.
    pub(super) at: Instant,
    /// The signal that has ended it, if that could be seen.
    pub(super) signal: Option<i32>,
}

/// Those of these processes that are there.
pub(super) fn of_all(pids: &[u32]) -> Vec<Process> {
    pids.iter().filter_map(|pid| Process::find(*pid)).collect()
}

impl Process {
    /// `None`: it is gone.
    pub(super) fn find(pid: u32) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        // Before anything is read of it: what is read then is of this process, as long as that is there.
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let process = Self {
            pid,
            started: started(pid)?,
            cgroup: cgroup::of_process(pid),
            comm: comm(pid)?,
            pidfd,
            found: Instant::now(),
            open_then: open(pid),
            end: OnceCell::new(),
        };
        (!process.has_ended()).then_some(process)
    }

    /// Has it ended?
    pub(super) fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Its end, if that has come.
    pub(super) fn ended(&self) -> Option<End> {
        if self.end.get().is_none() {
            let has_ended = child::ends_by(&self.pidfd, None, Instant::now()).unwrap_or(true);
            if has_ended {
                let end = End {
                    at: Instant::now(),
                    signal: signal(self.pid, self.started),
                };
                let _ = self.end.set(end);
            }
        }
        self.end.get().cloned()
    }

    /// Its limits now.
    pub(super) fn limits(&self) -> Option<Limits> {
        let limits = proc_process(self.pid)?.limits().ok()?.max_open_files;
        let value = |limit: LimitValue| match limit {
            LimitValue::Unlimited => u64::MAX,
            LimitValue::Value(value) => value,
        };
        Some(Limits {
            soft: value(limits.soft_limit),
            hard: value(limits.hard_limit),
        })
    }

    /// Fds that it has open.
    pub(super) fn open(&self) -> Option<u64> {
        open(self.pid).filter(|_| !self.has_ended())
    }

    /// All that checks go by.
    pub(super) fn subject(&self, look: &mut Look) -> Subject {
        let used = self.open();
        let grown = used.zip(self.open_then).map(|(now, then)| {
            i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(then).unwrap_or(0)
        });
        let uid = user_of(self.pid);
        Subject {
            pid: self.pid,
            comm: self.comm.clone(),
            exe: program(self.pid),
            uid,
            is_kernel_thread: is_kernel_thread(self.pid),
            is_in_other_namespace: namespace(self.pid)
                .zip(namespace_of("self"))
                .map(|(its, own)| its != own),
            may_be_changed: may_raise_hard() || has_own_ids(self.pid),
            limits: self.limits().unwrap_or(Limits {
                soft: u64::MAX,
                hard: u64::MAX,
            }),
            used,
            grown: grown.unwrap_or(0),
            seconds: self.found.elapsed().as_secs_f64(),
            failures: look.failures(self.pid),
            select: look.select(self.pid, self.started),
            is_go: look.is_go(self.pid),
        }
    }

    /// Memory in use by its cgroup, and how much that may use.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let folder = self.cgroup_folder()?;
        let number = |name: &str| {
            fs::read_to_string(folder.join(name))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        Some((number("memory.current")?, number("memory.max")?))
    }

    fn cgroup_folder(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        let path = self.cgroup.as_deref()?;
        let below = path.strip_prefix(b"/").unwrap_or(path);
        Some(cgroup::mount_point()?.join(std::ffi::OsStr::from_bytes(below)))
    }

    /// Processes of the same program and cgroup that are near their limits, but for these.
    pub(super) fn others_near(&self, chosen: &[u32]) -> Vec<u32> {
        let members = self.cgroup_folder().and_then(|folder| {
            // The root's members are no service.
            (self.cgroup.as_deref() != Some(b"/")).then(|| cgroup::members(&folder).ok())?
        });
        let own = program(self.pid);
        let mut members = members.unwrap_or_default();
        members.retain(|pid| !chosen.contains(pid));
        members.truncate(OTHERS);
        members.retain(|pid| own.is_some() && program(*pid) == own && is_near(*pid));
        members
    }
}

/// Is a process near its limit now? Not where that cannot be read.
fn is_near(pid: u32) -> bool {
    let near = || {
        let limits = Process::find(pid)?.limits()?;
        Some(open(pid)? >= limits.soft.saturating_mul(80) / 100)
    };
    near().unwrap_or(false)
}

fn proc_process(pid: u32) -> Option<ProcProcess> {
    ProcProcess::new(i32::try_from(pid).ok()?).ok()
}

/// When a process was started, see [`Process::started`].
pub(super) fn started(pid: u32) -> Option<u64> {
    Some(proc_process(pid)?.stat().ok()?.starttime)
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    u32::try_from(proc_process(pid)?.stat().ok()?.ppid).ok()
}

/// The path of its program, as the process sees it. Untrusted.
pub(super) fn program(pid: u32) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.into_os_string().into_vec())
}

fn comm(pid: u32) -> Option<Vec<u8>> {
    let mut comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    comm.pop_if(|last| *last == b'\n');
    Some(comm)
}

fn open(pid: u32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.count()).ok()
}

/// The signal that has ended a process which nobody has waited for yet (field 52 of `proc_pid_stat(5)`).
fn signal(pid: u32, started: u64) -> Option<i32> {
    let stat = proc_process(pid)?.stat().ok()?;
    let status = stat.exit_code.filter(|_| stat.starttime == started)?;
    Some(status & 0x7f).filter(|signal| *signal != 0)
}

fn namespace(pid: u32) -> Option<PathBuf> {
    namespace_of(&pid.to_string())
}

fn namespace_of(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

/// May fdtrace raise hard limits, and set those of other users' processes (`CAP_SYS_RESOURCE`; `do_prlimit` in
/// kernel/sys.c)?
pub(super) fn may_raise_hard() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

/// Are all its users and groups fdtrace's (`check_prlimit_permission` in kernel/sys.c)?
fn has_own_ids(pid: u32) -> bool {
    let (uid, gid) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let status = proc_process(pid).and_then(|process| process.status().ok());
    status.is_some_and(|status| {
        [status.ruid, status.euid, status.suid]
            .iter()
            .all(|it| *it == uid)
            && [status.rgid, status.egid, status.sgid]
                .iter()
                .all(|it| *it == gid)
    })
}

/// How long between two looks at whether a process is there.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
