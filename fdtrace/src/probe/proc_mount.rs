//! Is /proc there, is it this pid namespace's, and does it show other users' processes?
//!
//! Each question is asked of /proc itself: mount options and kernel versions decide nothing here.

use std::{
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use rustix::fs::statfs;

/// `PROC_SUPER_MAGIC` in include/uapi/linux/magic.h.
const MAGIC: u64 = 0x9fa0;
/// The initial pid namespace always has this inode (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
const INITIAL: &str = "pid:[4026531836]";

/// What is wrong with /proc, each with what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No procfs is there.
    #[error("/proc is not mounted, and fdtrace finds processes there: mount -t proc proc /proc")]
    NotMounted,
    /// It does not know the process that reads it.
    #[error(
        "/proc belongs to another pid namespace, in which fdtrace does not exist: mount the one of this \
         namespace (mount -t proc proc /proc)"
    )]
    OtherNamespace,
    /// fdtrace is not where the kernel counts processes from.
    #[error(
        "fdtrace runs in a pid namespace of its own, as in a container, where the host's process \
         numbers mean nothing: run it in the host's (docker run --pid=host, nsenter -t 1 -p)"
    )]
    OwnNamespace,
}

/// What /proc keeps back, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// `hidepid`, and fdtrace is none of those that it makes an exception for.
    Processes,
    /// `subset=pid`.
    Sysctls,
}

impl Gap {
    /// Why a process may not be there, and what to do.
    pub const HIDDEN: &str = "/proc is mounted with hidepid and hides other users' processes (add CAP_SYS_PTRACE \
                              or run as root, or mount -o remount,hidepid=0 /proc)";
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processes => write!(
                formatter,
                "what only /proc tells of other users' processes: {}",
                Self::HIDDEN
            ),
            Self::Sysctls => formatter.write_str(
                "the host's own limits, such as fs.nr_open and fs.file-max: /proc is mounted with \
                 subset=pid, without /proc/sys (mount -t proc proc /proc)",
            ),
        }
    }
}

/// Why fdtrace cannot find the processes that the kernel tells of.
#[must_use]
pub fn fault() -> Option<Fault> {
    fault_of(Path::new("/proc"))
}

/// What a /proc without a fault keeps back.
#[must_use]
pub fn gaps() -> Vec<Gap> {
    match fault() {
        Some(_) => Vec::new(),
        None => gaps_of(Path::new("/proc")),
    }
}

fn fault_of(proc: &Path) -> Option<Fault> {
    let is_procfs = statfs(proc).is_ok_and(|found| u64::try_from(found.f_type) == Ok(MAGIC));
    if !is_procfs {
        return Some(Fault::NotMounted);
    }
    // Broken where the reader has no number in the namespace that it was mounted for
    // (`proc_self_get_link` in fs/proc/self.c).
    if proc.join("self").read_link().is_err() {
        return Some(Fault::OtherNamespace);
    }
    match proc.join("self/ns/pid").read_link() {
        Ok(link) if link != Path::new(INITIAL) => Some(Fault::OwnNamespace),
        // Without CONFIG_PID_NS there is one namespace, and no link to it.
        Ok(_) | Err(_) => None,
    }
}

fn gaps_of(proc: &Path) -> Vec<Gap> {
    let mut gaps = Vec::new();
    // Everybody may read init's name, unless processes are hidden: then it is not there (hidepid=2, 4) or may
    // not be opened (1; `proc_pid_permission` in fs/proc/base.c).
    let init: PathBuf = proc.join("1/comm");
    let is_hidden = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied);
    if std::fs::read(init).is_err_and(|error| is_hidden(error.kind())) {
        gaps.push(Gap::Processes);
    }
    if !proc.join("sys").exists() {
        gaps.push(Gap::Sysctls);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_no_proc() {
        assert_eq!(fault_of(Path::new("/")), Some(Fault::NotMounted));
        assert_eq!(fault_of(Path::new("/nonexistent")), Some(Fault::NotMounted));
    }

    #[test]
    fn what_is_kept_back_is_found_by_reading() {
        let proc = std::env::temp_dir().join(format!("fdtrace-proc-{}", std::process::id()));
        std::fs::create_dir_all(&proc).unwrap();
        assert_eq!(gaps_of(&proc), [Gap::Processes, Gap::Sysctls]);
        std::fs::create_dir_all(proc.join("sys")).unwrap();
        std::fs::create_dir_all(proc.join("1")).unwrap();
        std::fs::write(proc.join("1/comm"), "init").unwrap();
        assert_eq!(gaps_of(&proc), []);
        std::fs::remove_dir_all(&proc).unwrap();
    }
}
