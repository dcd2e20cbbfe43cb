//! Who is above a process, and what its unit's files say: what [`crate::diagnose::origin`] decides by.

mod unit_files;

use std::{collections::HashMap, path::PathBuf, time::Instant};

use procfs::process::{LimitValue, Process};

use super::{process::folder, stacks::script};
use crate::{
    diagnose::origin::{Ancestor, Lineage, Nofile, UnitFile},
    ground::place,
    probe::cgroup,
    timers::Timer,
};

/// Processes above one that are looked at.
const ABOVE_MAX: usize = 16;
/// Units whose files are remembered, for so long.
const KEPT: usize = 256;
const FRESH: Timer = Timer::seconds(10);
/// Processes that are remembered, for a shorter time: in a storm siblings fail, which have the same ones above.
const PROCESSES_KEPT: usize = 1_024;
const PROCESS_FRESH: Timer = Timer::seconds(1);

/// Looks processes up; remembers what the files of their units say for a while.
#[derive(Default)]
pub struct Lineages {
    processes: HashMap<i32, (Instant, Known)>,
    units: HashMap<Scope, (Instant, Option<UnitFile>)>,
}

/// A process, when it was started in clock ticks since boot, and its parent.
#[derive(Clone)]
struct Known {
    ancestor: Ancestor,
    started: u64,
    parent: i32,
}

/// Whose files: a service manager, and a unit as it calls it.
type Scope = (u32, String);

impl Lineages {
    /// Who is above a process, and what its unit says. `None` where it is gone.
    pub fn of(&mut self, pid: u32) -> Option<Lineage> {
        let own = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        let (mut parent, mut started) = (own.ppid, own.starttime);
        let mut above = Vec::new();
        while above.len() < ABOVE_MAX {
            let Some(known) = self.process(parent) else {
                break;
            };
            // A number that was used again since is nobody's parent.
            if known.started > started {
                break;
            }
            (parent, started) = (known.parent, known.started);
            above.push(known.ancestor);
        }
        let unit = self.unit(pid, &above);
        Some(Lineage { above, unit })
    }

    fn process(&mut self, pid: i32) -> Option<Known> {
        if let Some((time, known)) = self.processes.get(&pid)
            && time.elapsed() < PROCESS_FRESH.duration()
        {
            return Some(known.clone());
        }
        let process = Process::new(pid).ok()?;
        let stat = process.stat().ok()?;
        let known = Known {
            ancestor: ancestor(&process, stat.comm),
            started: stat.starttime,
            parent: stat.ppid,
        };
        if self.processes.len() >= PROCESSES_KEPT {
            self.processes.clear();
        }
        self.processes.insert(pid, (Instant::now(), known.clone()));
        Some(known)
    }

    /// What the files of its unit say: of the nearest service manager above it.
    fn unit(&mut self, pid: u32, above: &[Ancestor]) -> Option<UnitFile> {
        let manager = above.iter().find(|ancestor| ancestor.is_manager())?;
        let own = cgroup::of_process(pid)?;
        // As the manager itself sees it, below the scope that it is in.
        let below = manager.cgroup.strip_suffix("init.scope")?;
        let below = below.strip_suffix('/')?.as_bytes();
        let name = place::parse(own.strip_prefix(below)?).unit?;
        let scope = (manager.pid, name);
        if let Some((time, known)) = self.units.get(&scope)
            && time.elapsed() < FRESH.duration()
        {
            return known.clone();
        }
        if self.units.len() >= KEPT {
            self.units.clear();
        }
        let manager = unit_files::Manager {
            root: PathBuf::from(format!("/proc/{}/root", manager.pid)),
            is_users: below.ends_with(b".service"),
            home: unit_files::home(manager.pid),
        };
        let found = unit_files::read(&manager, &scope.1);
        self.units.insert(scope, (Instant::now(), found.clone()));
        found
    }
}

fn ancestor(process: &Process, comm: String) -> Ancestor {
    let pid = process.pid().unsigned_abs();
    let limits = process.limits().ok().map(|limits| Nofile {
        soft: number(limits.max_open_files.soft_limit),
        hard: number(limits.max_open_files.hard_limit),
    });
    let cgroup = cgroup::of_process(pid).unwrap_or_default();
    Ancestor {
        pid,
        comm,
        cgroup: String::from_utf8_lossy(&cgroup).into_owned(),
        limits,
        script: script::of_process(&folder(pid)).map(|script| script.to_string()),
    }
}

fn number(limit: LimitValue) -> u64 {
    match limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(limit) => limit,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::diagnose::origin::{Origin, Whose};

    #[test]
    fn a_child_has_this_process_above_it() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lineage = Lineages::default().of(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let own = Process::myself().unwrap();
        let (stat, limits) = (own.stat().unwrap(), own.limits().unwrap());
        assert_eq!(lineage.above[0].pid, std::process::id());
        assert_eq!(lineage.above[0].comm, stat.comm);
        let soft = number(limits.max_open_files.soft_limit);
        assert_eq!(lineage.above[0].limits.unwrap().soft, soft);
        // Beyond the largest pid_max.
        assert_eq!(Lineages::default().of(1 << 23), None);
    }

    #[test]
    fn a_script_that_sets_its_own_limit_has_set_it() {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n 77; exec cat"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = || {
            let child = Process::new(child.id().cast_signed()).unwrap();
            let limits = child.limits().unwrap().max_open_files;
            (number(limits.soft_limit), number(limits.hard_limit))
        };
        while own() != (77, 77) {
            std::thread::yield_now();
        }
        let lineage = Lineages::default().of(child.id());
        let limits = Nofile { soft: 77, hard: 77 };
        let whose = Whose::of(limits, &place::Place::default(), lineage.as_ref());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(whose.origin, Origin::Own);
        assert_eq!(whose.parent.unwrap().pid, std::process::id());
    }
}
