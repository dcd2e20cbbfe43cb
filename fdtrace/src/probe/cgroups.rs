//! The cgroups in scope, as the kernel programs know them: by the ids of those asked for and of all below them.
//!
//! A cgroup that is removed and made again has another id: every restart of a service does that. Programs at the
//! kernel's tracepoints add a cgroup that is made at a path that was asked for, or below one in scope, before a process
//! can be in it. Where they cannot, this side looks once a second, and says so.

use std::collections::HashSet;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use fdtrace_common::control::{CGROUP_IDS_MAX, CGROUP_PATH_SIZE};

use super::{
    cgroup::{self, Asked},
    maps,
};

/// What was asked for, and what the kernel programs have been told of it.
#[derive(Debug, Default)]
pub struct Cgroups {
    asked: Vec<Asked>,
    /// Told, and not taken back.
    told: HashSet<u64>,
    /// No program adds what is made later.
    is_polled: bool,
}

impl Cgroups {
    /// Those asked for, and all below them. `has_hooks`: whether programs add what is made later. Called once these are
    /// attached, so that nothing is missed in between.
    pub(super) fn fill(asked: &[Asked], ebpf: &mut Ebpf, has_hooks: bool) -> Result<Self> {
        let mut cgroups = Self {
            asked: asked.to_vec(),
            told: HashSet::new(),
            is_polled: !has_hooks || asked.iter().any(|asked| key(asked).is_none()),
        };
        cgroups.tell(ebpf)?;
        Ok(cgroups)
    }

    /// Is what is made later found by looking only, up to a second late?
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.is_polled
    }

    /// Looks for those that have been made since, where nothing else tells.
    pub fn look(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        if self.is_polled {
            self.tell(ebpf)?;
        }
        Ok(())
    }

    /// Tells the programs what is there now.
    fn tell(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        let directories = self.asked.iter().map(|asked| &asked.directory);
        let present: HashSet<u64> = directories.flat_map(|path| cgroup::ids(path)).collect();
        let mut map = ids(ebpf)?;
        // A program may have taken them back.
        let removed = maps::remove_all(&mut map, self.told.difference(&present));
        removed.context("taking cgroups back that have gone")?;
        let mut told = Ok(());
        for id in present.difference(&self.told) {
            told = told.and(map.insert(id, 1, 0));
        }
        self.told = present;
        told.with_context(|| format!("watching more than {CGROUP_IDS_MAX} cgroups"))
    }
}

/// Tells the programs which paths were asked for, as far as they can recognise them.
pub(super) fn tell_paths(asked: &[Asked], ebpf: &mut Ebpf) -> Result<()> {
    let map = ebpf
        .map_mut("CGROUP_PATHS")
        .context("no map CGROUP_PATHS in the kernel object")?;
    let mut map: HashMap<_, [u8; CGROUP_PATH_SIZE], u8> = HashMap::try_from(map)?;
    for key in asked.iter().filter_map(key) {
        map.insert(key, 1, 0)
            .context("telling the programs the path of a cgroup")?;
    }
    Ok(())
}

/// A path as the programs compare it: with zeroes behind it, one at least.
fn key(asked: &Asked) -> Option<[u8; CGROUP_PATH_SIZE]> {
    let path = asked.path.as_deref()?;
    let mut key = [0; CGROUP_PATH_SIZE];
    // A path that leaves room for nothing but the NUL could also be a longer one, cut.
    let room = key.get_mut(..CGROUP_PATH_SIZE - 2)?;
    room.get_mut(..path.len())?.copy_from_slice(path);
    Some(key)
}

fn ids(ebpf: &mut Ebpf) -> Result<HashMap<&mut MapData, u64, u8>> {
    let map = ebpf
        .map_mut("CGROUPS")
        .context("no map CGROUPS in the kernel object")?;
    Ok(HashMap::try_from(map)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(length: usize) -> Option<[u8; CGROUP_PATH_SIZE]> {
        key(&Asked {
            directory: "/".into(),
            path: Some(vec![b'x'; length]),
        })
    }

    #[test]
    fn a_path_that_would_be_cut_is_no_key() {
        let longest = CGROUP_PATH_SIZE - 2;
        let key = key_of(longest).unwrap();
        assert_eq!(key[longest - 1..], [b'x', 0, 0]);
        assert_eq!(key_of(longest + 1), None);
        assert_eq!(key_of(10 * longest), None);
    }
}
