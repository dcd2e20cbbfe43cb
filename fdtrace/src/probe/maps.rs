//! The maps that running programs and fdtrace share.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap},
};
use fdtrace_common::{
    alarm::{StormCell, StormKey},
    control::{COUNTERS, Control, PHASE_ARMED, PHASE_SELF_TEST, PHASE_WATCHED},
};

/// Only this process's failures are told from here on, and each as if it were the first: another
/// backend's self-test may have left the same one in the storm map.
pub fn start_self_test(ebpf: &mut Ebpf) -> Result<()> {
    clear_storms(ebpf)?;
    set_control(ebpf, 1, PHASE_SELF_TEST)
}

/// Forgets the self-test; everything in scope is told from here on.
pub fn start(ebpf: &mut Ebpf, tick: u64) -> Result<()> {
    clear_storms(ebpf)?;
    arm(ebpf, tick, Changes::All)
}

/// Whose changes of tables are told. Exhaustion always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Changes {
    /// Everybody's.
    #[default]
    All,
    /// Those of the tables given to [`watch_only`].
    Watched,
}

/// What is told from here on; `tick` as in [`Control::tick`].
pub fn arm(ebpf: &mut Ebpf, tick: u64, changes: Changes) -> Result<()> {
    let phase = match changes {
        Changes::All => PHASE_ARMED,
        Changes::Watched => PHASE_WATCHED,
    };
    set_control(ebpf, tick, phase)
}

/// Sets which tables are watched, by the addresses of their `files_struct`.
pub fn watch_only(ebpf: &mut Ebpf, tables: &BTreeSet<u64>) -> Result<()> {
    let map = ebpf
        .map_mut("WATCHED")
        .context("no map WATCHED in the kernel object")?;
    let mut watched: HashMap<&mut MapData, u64, u8> = HashMap::try_from(map)?;
    let before = watched.keys().collect::<Result<BTreeSet<u64>, _>>();
    let before = before.context("reading the set of watched tables")?;
    for gone in before.difference(tables) {
        match watched.remove(gone) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).context("removing from the set of watched tables"),
        }
    }
    for new in tables.difference(&before) {
        let added = watched.insert(new, 1, 0);
        added.context("adding to the set of watched tables")?;
    }
    Ok(())
}

fn set_control(ebpf: &mut Ebpf, tick: u64, phase: u32) -> Result<()> {
    let map = ebpf
        .map_mut("CONTROL")
        .context("no map CONTROL in the kernel object")?;
    let mut control: Array<&mut MapData, Control> = Array::try_from(map)?;
    control
        .set(
            0,
            Control {
                tick,
                phase,
                padding: 0,
            },
            0,
        )
        .context("writing the control map")
}

/// The loss counters, summed over CPUs, by their `COUNTER_` constants.
pub fn counters(ebpf: &Ebpf) -> Result<[u64; COUNTERS as usize]> {
    let map = ebpf
        .map("LOST")
        .context("no map LOST in the kernel object")?;
    let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map)?;
    let mut counters = [0; COUNTERS as usize];
    for (index, sum) in (0..).zip(&mut counters) {
        *sum = map
            .get(&index, 0)
            .context("reading the loss counters")?
            .iter()
            .sum();
    }
    Ok(counters)
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

/// Empties the storm map: what a self-test has left in it.
fn clear_storms(ebpf: &mut Ebpf) -> Result<()> {
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
