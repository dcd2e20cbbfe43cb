//! Which processes call select(2), as the kernel programs have seen it.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use fdtrace_common::select::SelectCell;
use log::debug;

/// The name of the map.
const MAP: &str = "SELECTS";

/// The map in which they are, see [`SelectCell`].
pub struct Selects(HashMap<MapData, u32, SelectCell>);

impl Selects {
    /// Takes the map out of the loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf
            .take_map(MAP)
            .with_context(|| format!("no map {MAP} in the kernel object"))?;
        Ok(Self(HashMap::try_from(map)?))
    }

    /// What has been seen of the process of this number; `None`: nothing. It may have been another process: the
    /// caller compares when it was started.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Option<SelectCell> {
        known(self.0.get(&tgid, 0))
    }
}

/// The same while the object still has its map.
pub(super) fn of(ebpf: &Ebpf, tgid: u32) -> Result<Option<SelectCell>> {
    let map = ebpf
        .map(MAP)
        .with_context(|| format!("no map {MAP} in the kernel object"))?;
    let map: HashMap<&MapData, u32, SelectCell> = HashMap::try_from(map)?;
    Ok(known(map.get(&tgid, 0)))
}

fn known(cell: Result<SelectCell, MapError>) -> Option<SelectCell> {
    match cell {
        Ok(cell) => Some(cell).filter(|cell| cell.most > 0),
        Err(MapError::KeyNotFound) => None,
        Err(error) => {
            debug!("reading the map {MAP}: {error}");
            None
        }
    }
}
