//! The maps that running programs and fdtrace share, and that bpf(2) reads and writes. What changes every
//! second is in `shared`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError, PerCpuHashMap},
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

/// What each CPU has counted of a kind of failure; empty where the kernel does not know it.
pub fn storm(ebpf: &Ebpf, key: &StormKey) -> Result<Vec<(u32, u64)>> {
    let map = ebpf
        .map("STORMS")
        .context("no map STORMS in the kernel object")?;
    let map: PerCpuHashMap<&MapData, StormKey, StormCell> = PerCpuHashMap::try_from(map)?;
    match map.get(key, 0) {
        Ok(cells) => Ok((0..).zip(cells.iter().map(|cell| cell.failures)).collect()),
        Err(MapError::KeyNotFound) => Ok(Vec::new()),
        Err(error) => Err(error).context("reading the storm map"),
    }
}

/// Makes room in the kernel's map: the process has ended, nothing can count there any more.
pub fn forget_storm(ebpf: &mut Ebpf, key: &StormKey) -> Result<()> {
    let map = ebpf
        .map_mut("STORMS")
        .context("no map STORMS in the kernel object")?;
    let mut map: PerCpuHashMap<&mut MapData, StormKey, StormCell> = PerCpuHashMap::try_from(map)?;
    match map.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(error).context("removing from the storm map"),
    }
}

/// Empties the storm map: what a self-test has left in it, of this backend or of another one.
pub fn clear_storms(ebpf: &mut Ebpf) -> Result<()> {
    let keys: Vec<StormKey> = {
        let map = ebpf
            .map("STORMS")
            .context("no map STORMS in the kernel object")?;
        let map: PerCpuHashMap<&MapData, StormKey, StormCell> = PerCpuHashMap::try_from(map)?;
        map.keys()
            .collect::<Result<_, _>>()
            .context("reading the storm map")?
    };
    keys.iter().try_for_each(|key| forget_storm(ebpf, key))
}
