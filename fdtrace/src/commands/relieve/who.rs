//! Which processes are meant.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::facts::{parent, program};
use crate::{
    cli::Relieve,
    probe::{cgroup, scope},
};

/// Processes that are raised at once: more are no service.
const MOST: usize = 1_024;

/// Those that the command line names.
pub(super) fn chosen(args: &Relieve) -> Result<Vec<u32>> {
    let pids = if let Some(unit) = &args.unit {
        cgroup::members(&folder_of(unit)?)?
    } else if let Some(path) = &args.cgroup {
        cgroup::members(path)?
    } else if let Some(pid) = args.pid {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            bail!("no process {pid}");
        }
        if args.tree { tree(pid)? } else { vec![pid] }
    } else {
        Vec::new()
    };
    let pids: BTreeSet<u32> = pids.into_iter().collect();
    if pids.is_empty() {
        bail!("no process is in it");
    }
    if pids.len() > MOST {
        bail!(
            "{} processes are in it, at most {MOST} are raised at once",
            pids.len()
        );
    }
    Ok(pids.into_iter().collect())
}

/// A process with all that descends from it, from the first of its parents on that runs the same program in the same
/// cgroup: the master, whose limit the workers to come will have.
fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut root = pid;
    let same = |one: u32, other: u32| {
        program(one).is_some()
            && program(one) == program(other)
            && cgroup::of_process(one) == cgroup::of_process(other)
    };
    while let Some(above) = parent(root).filter(|above| *above > 1 && same(root, *above)) {
        root = above;
    }
    Ok(scope::family(&[root], true)?.into_iter().collect())
}

/// The cgroup of a unit of the host's systemd: the one folder of that name.
fn folder_of(unit: &str) -> Result<PathBuf> {
    let name = if unit.contains('.') {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    };
    let root = cgroup::mount_point().context("--unit: no cgroup2 file system is mounted here")?;
    let mut found = cgroup::named(&root, &name);
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            bail!("--unit {unit}: several cgroups are called {name}: give one with --cgroup")
        }
        (None, _) => bail!("--unit {unit}: no cgroup is called {name}: does it run?"),
    }
}
