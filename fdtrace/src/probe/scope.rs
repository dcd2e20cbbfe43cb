//! Which processes are watched. Checked before anything is attached, applied by the kernel programs.

use std::{collections::HashSet, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{HashMap, MapError},
};
use fdtrace_common::control::CGROUPS_MAX;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    cgroup::{self, Asked},
    cgroups, maps,
    proc_mount::{self, Gap},
};

/// A thread's name has at most this many bytes (`TASK_COMM_LEN` less its NUL).
const COMM_LENGTH: usize = 15;

/// What the command line asks for; the kinds are combined by *and*, values of one kind by *or*.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Processes.
    pub pids: Vec<u32>,
    /// Their children too.
    pub follow: bool,
    /// cgroups, as typed.
    pub cgroups: Vec<PathBuf>,
    /// Part of the name of a process or of its thread.
    pub comm: Option<String>,
    /// User id.
    pub uid: Option<u32>,
}

impl Request {
    /// Finds what no host could do, before anything is looked at.
    pub fn check(&self) -> Result<()> {
        if self.follow && self.pids.is_empty() {
            bail!("--follow follows the children of given processes: give --pid too");
        }
        if self.cgroups.len() > CGROUPS_MAX as usize {
            bail!(
                "at most {CGROUPS_MAX} cgroups can be watched at once, {} were given: \
                 give a cgroup that holds them",
                self.cgroups.len(),
            );
        }
        let length = self.comm.as_ref().map_or(0, String::len);
        if length > COMM_LENGTH {
            bail!(
                "a thread's name has at most {COMM_LENGTH} bytes, --comm was given {length}: \
                 give a part of it",
            );
        }
        Ok(())
    }
}

/// A process that was asked for by its number.
#[derive(Clone, Debug)]
pub struct Named {
    /// The number.
    pub pid: u32,
    /// The process itself, whoever gets its number later; `None` where no pidfd is to be had.
    pub pidfd: Option<Arc<OwnedFd>>,
}

impl Named {
    /// Checks that it is there.
    fn open(pid: u32) -> Result<Self> {
        check_process(pid)?;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = number.map_or(Err(Errno::SRCH), |pid| pidfd_open(pid, PidfdFlags::empty()));
        if matches!(pidfd, Err(Errno::SRCH)) {
            bail!("no process {pid}: it has just ended");
        }
        Ok(Self {
            pid,
            pidfd: pidfd.ok().map(Arc::new),
        })
    }
}

/// A request found to be possible.
#[derive(Debug, Default)]
pub struct Scope {
    /// Processes; with `follow` their descendants join later. Empty: any.
    pub pids: Vec<u32>,
    /// Children of watched processes are watched.
    pub follow: bool,
    /// Of these processes, what tells when they end.
    pub named: Vec<Named>,
    /// cgroups; descendants belong to them. Empty: any.
    pub cgroups: Vec<Asked>,
    /// Part of the name of a process or of its thread. Empty: any.
    pub comm: Vec<u8>,
    /// User id.
    pub uid: Option<u32>,
}

impl Scope {
    /// Checks that every process and cgroup asked for is there.
    pub fn new(request: &Request) -> Result<Self> {
        request.check()?;
        let named = request.pids.iter().map(|pid| Named::open(*pid));
        let named = named.collect::<Result<_>>()?;
        let cgroups = request
            .cgroups
            .iter()
            .map(|path| cgroup::find(path))
            .collect::<Result<_>>()?;
        Ok(Self {
            pids: request.pids.clone(),
            follow: request.follow,
            named,
            cgroups,
            comm: request.comm.clone().unwrap_or_default().into_bytes(),
            uid: request.uid,
        })
    }

    /// The wanted part of the name as two little-endian words, and the mask of the bytes that count.
    #[must_use]
    pub fn comm_pattern(&self) -> ([u64; 2], [u64; 2]) {
        let mut bytes = [0_u8; 16];
        let mut mask = [0_u8; 16];
        for ((to, mask), from) in bytes.iter_mut().zip(&mut mask).zip(&self.comm) {
            *to = *from;
            *mask = 0xff;
        }
        (words(bytes), words(mask))
    }

    /// How many processes the filter can ever hold; `None`: as many as children come to be followed. The
    /// kernel makes room for all of them at once, which takes it milliseconds.
    #[must_use]
    pub fn most_pids(&self) -> Option<u32> {
        (!self.follow).then(|| u32::try_from(self.pids.len()).unwrap_or(u32::MAX).max(1))
    }

    /// Fills the maps that the programs look into. Called before they are attached.
    pub fn fill(&self, ebpf: &mut Ebpf) -> Result<()> {
        cgroups::tell_paths(&self.cgroups, ebpf)?;
        let mut pids = pid_set(ebpf)?;
        for pid in &self.pids {
            pids.insert(pid, 1, 0)
                .with_context(|| format!("adding process {pid} to the filter"))?;
        }
        Ok(())
    }

    /// Adds the descendants that watched processes have already. Called once new ones are followed,
    /// so that none is missed in between.
    pub fn add_descendants(&self, ebpf: &mut Ebpf) -> Result<()> {
        if !self.follow {
            return Ok(());
        }
        let parents = parents()?;
        let mut pids = pid_set(ebpf)?;
        let mut wave = self.pids.clone();
        while let Some(parent) = wave.pop() {
            for (child, _) in parents.iter().filter(|(_, of)| *of == parent) {
                pids.insert(child, 1, 0).with_context(|| {
                    format!("adding process {child}, a child of {parent}, to the filter")
                })?;
                wave.push(*child);
            }
        }
        Ok(())
    }
}

/// These processes, with `follow` their descendants of now. Empty: any.
pub fn family(pids: &[u32], follow: bool) -> Result<HashSet<u32>> {
    let mut family: HashSet<u32> = pids.iter().copied().collect();
    let parents = if follow { parents()? } else { Vec::new() };
    let mut wave = pids.to_vec();
    while let Some(parent) = wave.pop() {
        for (child, _) in parents.iter().filter(|(_, of)| *of == parent) {
            if family.insert(*child) {
                wave.push(*child);
            }
        }
    }
    Ok(family)
}

/// Takes a process that has ended out of the filter; its own end may have done it.
pub fn forget(ebpf: &mut Ebpf, pid: u32) -> Result<()> {
    let removed = maps::remove_all(&mut pid_set(ebpf)?, [&pid]);
    removed.with_context(|| format!("taking process {pid} out of the filter"))
}

/// Is this process in the filter? The kernel takes out whoever has ended.
pub fn has(ebpf: &mut Ebpf, pid: u32) -> Result<bool> {
    match pid_set(ebpf)?.get(&pid, 0) {
        Ok(_) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) => Err(error).context("looking a process up in the filter"),
    }
}

/// Is nobody left in the filter?
pub fn is_empty(ebpf: &mut Ebpf) -> Result<bool> {
    let pids = pid_set(ebpf)?;
    Ok(pids.keys().next().is_none())
}

fn pid_set(ebpf: &mut Ebpf) -> Result<HashMap<&mut aya::maps::MapData, u32, u8>> {
    let map = ebpf
        .map_mut("PIDS")
        .context("no map PIDS in the kernel object")?;
    Ok(HashMap::try_from(map)?)
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let value = u128::from_le_bytes(bytes);
    let low = u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default();
    let high = u64::try_from(value >> 64).unwrap_or_default();
    [low, high]
}

/// Every process and its parent.
fn parents() -> Result<Vec<(u32, u32)>> {
    let entries = std::fs::read_dir("/proc").context("listing /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent_of = |pid: u32| {
        // Gone meanwhile, if it cannot be read.
        let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
        Some((pid, status_number(&status, b"PPid:")?))
    };
    Ok(pids.filter_map(parent_of).collect())
}

/// The number behind a label in a /proc/PID/status. It is read as bytes: a process's name, which stands there too, need
/// not be UTF-8.
fn status_number(status: &[u8], label: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(label))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Is `pid` a process, and not just one thread of one?
fn check_process(pid: u32) -> Result<()> {
    let Ok(status) = std::fs::read(format!("/proc/{pid}/status")) else {
        if proc_mount::gaps().contains(&Gap::Processes) {
            bail!("process {pid} has ended or is hidden: {}", Gap::HIDDEN);
        }
        bail!("no process {pid}: it has ended, or the number is not one of this pid namespace");
    };
    match status_number(&status, b"Tgid:") {
        Some(leader) if leader != pid => {
            bail!("{pid} is a thread of process {leader}: give --pid {leader}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_just_its_bytes() {
        let scope = Scope {
            comm: b"nginx: wor".to_vec(),
            ..Scope::default()
        };
        let (text, mask) = scope.comm_pattern();
        assert_eq!(
            text,
            [
                u64::from_le_bytes(*b"nginx: w"),
                u64::from_le_bytes(*b"or\0\0\0\0\0\0")
            ]
        );
        assert_eq!(mask, [u64::MAX, 0xffff]);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused() {
        let request = Request {
            pids: vec![0x7fff_fff0],
            ..Request::default()
        };
        let error = Scope::new(&request).unwrap_err().to_string();
        assert!(error.contains("no process 2147483632"), "{error}");
    }

    #[test]
    fn a_name_that_is_not_text_hides_no_number() {
        // The kernel escapes a newline in a name, and nothing else that matters here (fs/proc/array.c).
        let status = b"Name:\t\xff\xfe Tgid:\\n9\nTgid:\t7\nPid:\t7\nPPid:\t1\n";
        assert_eq!(status_number(status, b"Tgid:"), Some(7));
        assert_eq!(status_number(status, b"PPid:"), Some(1));
        assert_eq!(status_number(status, b"Uid:"), None);
    }

    #[test]
    fn following_needs_somebody_to_follow() {
        let request = Request {
            follow: true,
            ..Request::default()
        };
        assert!(request.check().is_err());
    }

    #[test]
    fn a_name_no_thread_can_have_is_refused() {
        let request = Request {
            comm: Some("x".repeat(16)),
            ..Request::default()
        };
        assert!(request.check().is_err());
    }
}
