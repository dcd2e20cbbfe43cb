//! The maps that running programs and fdtrace share, and that bpf(2) reads and writes. What changes every
//! second is in `shared`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError},
};
use fdtrace_common::alarm::{StormCell, StormKey};

/// Sets which tables are watched, by the addresses of their `files_struct`.
pub fn watch_only(ebpf: &mut Ebpf, tables: &BTreeSet<u64>) -> Result<()> {
    set_tables(ebpf, "WATCHED", tables, 1_u8)
}

/// Sets in which tables the stack of whoever opens an fd is taken.
pub fn take_stacks(ebpf: &mut Ebpf, tables: &BTreeSet<u64>) -> Result<()> {
    set_tables(ebpf, "STACK_TABLES", tables, 0_u64)
}

fn set_tables<V: Pod>(ebpf: &mut Ebpf, name: &str, tables: &BTreeSet<u64>, value: V) -> Result<()> {
    let map = ebpf
        .map_mut(name)
        .with_context(|| format!("no map {name} in the kernel object"))?;
    let mut map: HashMap<&mut MapData, u64, V> = HashMap::try_from(map)?;
    let before = map.keys().collect::<Result<BTreeSet<u64>, _>>();
    let before = before.with_context(|| format!("reading the map {name}"))?;
    for gone in before.difference(tables) {
        match map.remove(gone) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).context(format!("removing from the map {name}")),
        }
    }
    for new in tables.difference(&before) {
        let added = map.insert(new, value, 0);
        added.with_context(|| format!("adding to the map {name}"))?;
    }
    Ok(())
}

/// What each of so many CPUs has counted of a kind of failure; empty where the kernel does not know it.
pub fn storm(ebpf: &Ebpf, key: &StormKey, cpus: u32) -> Result<Vec<(u32, u64)>> {
    let map = ebpf
        .map("STORMS")
        .context("no map STORMS in the kernel object")?;
    let map: HashMap<&MapData, StormKey, StormCell> = HashMap::try_from(map)?;
    let mut counted = Vec::new();
    let mut is_known = false;
    for cpu in 0..cpus {
        let failures = match map.get(&StormKey { cpu, ..*key }, 0) {
            Ok(cell) => Some(cell.failures),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(error).context("reading the storm map"),
        };
        is_known |= failures.is_some();
        counted.push((cpu, failures.unwrap_or_default()));
    }
    Ok(if is_known { counted } else { Vec::new() })
}

/// Makes room in the kernel's map: the process has ended, nothing can count there any more.
pub fn forget_storm(ebpf: &mut Ebpf, key: &StormKey, cpus: u32) -> Result<()> {
    let keys = (0..cpus).map(|cpu| StormKey { cpu, ..*key });
    remove_storms(ebpf, keys)
}

fn remove_storms(ebpf: &mut Ebpf, keys: impl IntoIterator<Item = StormKey>) -> Result<()> {
    let map = ebpf
        .map_mut("STORMS")
        .context("no map STORMS in the kernel object")?;
    let mut map: HashMap<&mut MapData, StormKey, StormCell> = HashMap::try_from(map)?;
    for key in keys {
        match map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).context("removing from the storm map"),
        }
    }
    Ok(())
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
    remove_storms(ebpf, keys)
}
