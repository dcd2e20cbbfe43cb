//! The maps that running programs and fdtrace share, and that bpf(2) reads and writes. What changes every
//! second is in `shared`.

use std::{
    borrow::BorrowMut,
    collections::BTreeSet,
    io,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError},
};
use fdtrace_common::{
    alarm::{StormCell, StormKey},
    python::PythonLayout,
};
use log::debug;

use super::ask;

/// Sets which tables are watched, by the addresses of their `files_struct`.
pub fn watch_only(ebpf: &mut Ebpf, tables: &BTreeSet<u64>) -> Result<()> {
    set_tables::<u8>(ebpf, "WATCHED", ask::Tables::Watched, tables)
}

/// Who tells running programs where the interpreter of a program keeps its frames, by `StackRecord::image`. To be asked
/// for once.
pub fn interpreters(ebpf: &mut Ebpf) -> Result<impl Fn(u64, PythonLayout) + Send + Sync + use<>> {
    let map = ebpf
        .take_map("PYTHONS")
        .context("no map PYTHONS in the kernel object")?;
    let map: HashMap<MapData, u64, PythonLayout> = HashMap::try_from(map)?;
    let map = Mutex::new(map);
    Ok(move |image, layout| {
        let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = map.insert(image, layout, 0) {
            debug!("adding to the map PYTHONS: {error}");
        }
    })
}

/// Sets in which tables the stack of whoever opens an fd is taken.
pub fn take_stacks(ebpf: &mut Ebpf, tables: &BTreeSet<u64>) -> Result<()> {
    set_tables::<u64>(ebpf, "STACK_TABLES", ask::Tables::Stacks, tables)
}

fn set_tables<V: Pod>(
    ebpf: &Ebpf,
    name: &str,
    set: ask::Tables,
    tables: &BTreeSet<u64>,
) -> Result<()> {
    let map = ebpf
        .map(name)
        .with_context(|| format!("no map {name} in the kernel object"))?;
    let map: HashMap<&MapData, u64, V> = HashMap::try_from(map)?;
    // Only fdtrace adds to these maps and removes from them: their keys do not change meanwhile.
    let before = map.keys().collect::<Result<BTreeSet<u64>, _>>();
    let before = before.with_context(|| format!("reading the map {name}"))?;
    let mut outcome = Ok(());
    for old in before.difference(tables) {
        let removed = set.remove(ebpf, *old).map(|_| ());
        outcome = outcome.and(removed.with_context(|| format!("removing from the map {name}")));
    }
    for new in tables.difference(&before) {
        let added = match set.add(ebpf, *new) {
            Ok(true) => Ok(()),
            Ok(false) => Err(anyhow!("it is full")),
            Err(error) => Err(error),
        };
        outcome = outcome.and(added.with_context(|| format!("adding to the map {name}")));
    }
    outcome
}

/// Removes entries, whether they are there or not; an entry that cannot be removed does not keep the others.
/// The first error.
pub(super) fn remove_all<'a, T: BorrowMut<MapData>, K: Pod + 'a, V: Pod>(
    map: &mut HashMap<T, K, V>,
    keys: impl IntoIterator<Item = &'a K>,
) -> Result<(), MapError> {
    let mut outcome = Ok(());
    for key in keys {
        let removed = match map.remove(key) {
            Err(error) if is_absent(&error) => Ok(()),
            removed => removed,
        };
        outcome = outcome.and(removed);
    }
    outcome
}

/// Was the key not there? aya's `get` has a variant for that, its `remove` hands on the kernel's ENOENT.
fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What each of so many CPUs has counted of a kind of failure; empty where the kernel does not know it.
pub fn storm(ebpf: &Ebpf, key: &StormKey, cpus: u32) -> Result<Vec<(u32, u64)>> {
    let mut counted = Vec::new();
    let mut is_known = false;
    for cpu in 0..cpus {
        let failures = ask::failures(ebpf, &StormKey { cpu, ..*key });
        let failures = failures.context("reading the storm map")?;
        is_known |= failures.is_some();
        counted.push((cpu, failures.unwrap_or_default()));
    }
    Ok(if is_known { counted } else { Vec::new() })
}

/// Failures of all kinds that the map has.
pub(super) fn all_storms(ebpf: &Ebpf) -> Result<u64> {
    let map = ebpf
        .map("STORMS")
        .context("no map STORMS in the kernel object")?;
    let map: HashMap<&MapData, StormKey, StormCell> = HashMap::try_from(map)?;
    let mut failures = 0;
    for entry in &map {
        let (_, cell) = entry.context("reading the storm map")?;
        failures += cell.failures;
    }
    Ok(failures)
}

/// Makes room in the kernel's map: the process has ended, nothing can count there any more. Only the CPUs on
/// which it has failed have an entry.
pub fn forget_storm(ebpf: &Ebpf, key: &StormKey, cpus: u32) -> Result<()> {
    let mut outcome = Ok(());
    for cpu in 0..cpus {
        let forgotten = ask::forget(ebpf, &StormKey { cpu, ..*key }).map(|_| ());
        outcome = outcome.and(forgotten.context("removing from the storm map"));
    }
    outcome
}

fn remove_storms(ebpf: &mut Ebpf, keys: &[StormKey]) -> Result<()> {
    let map = ebpf
        .map_mut("STORMS")
        .context("no map STORMS in the kernel object")?;
    let mut map: HashMap<&mut MapData, StormKey, StormCell> = HashMap::try_from(map)?;
    remove_all(&mut map, keys).context("removing from the storm map")
}

/// Empties the storm map: what a self-test has left in it, of this backend or of another one.
pub fn clear_storms(ebpf: &mut Ebpf) -> Result<()> {
    let keys: Vec<StormKey> = {
        let map = ebpf
            .map("STORMS")
            .context("no map STORMS in the kernel object")?;
        let map: HashMap<&MapData, StormKey, StormCell> = HashMap::try_from(map)?;
        map.keys()
            .collect::<Result<_, _>>()
            .context("reading the storm map")?
    };
    remove_storms(ebpf, &keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cpu: u32) -> StormKey {
        StormKey {
            files: 1,
            started_ns: 2,
            tgid: 3,
            call: 4,
            hook: 5,
            errno: 24,
            limit: 64,
            cpu,
        }
    }

    /// Of a kernel's own map: what it says of a key that is not there is the point.
    #[test]
    fn a_storm_on_some_cpus_is_removed_from_all() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut map = HashMap::<MapData, StormKey, StormCell>::create(16, 0).unwrap();
        for cpu in [1, 3] {
            map.insert(key(cpu), StormCell::default(), 0).unwrap();
        }
        let keys: Vec<_> = (0..8).map(key).collect();
        remove_all(&mut map, &keys).unwrap();
        assert_eq!(map.keys().count(), 0);
        remove_all(&mut map, &keys).unwrap();
        assert!(is_absent(&map.get(&key(1), 0).unwrap_err()));
    }

    #[test]
    fn only_a_missing_key_is_absent() {
        let failed = |errno: rustix::io::Errno| {
            MapError::SyscallError(aya::sys::SyscallError {
                call: "bpf_map_delete_elem",
                io_error: errno.into(),
            })
        };
        assert!(is_absent(&failed(rustix::io::Errno::NOENT)));
        assert!(!is_absent(&failed(rustix::io::Errno::PERM)));
        assert!(!is_absent(&MapError::OutOfBounds {
            index: 1,
            max_entries: 1
        }));
    }
}
