//! Proof, before anything is promised: what a backend is to see happens in fdtrace's own process.

mod alarm;
mod tables;

use anyhow::Result;
use aya::maps::{MapData, RingBuf};

use super::backend::Backend;

/// Has a backend that is attached prove itself; with `tables` that it follows every path by which a
/// table changes. The error names what it has missed.
pub fn run(ring: &mut RingBuf<MapData>, backend: Backend, tables: bool) -> Result<()> {
    alarm::run(ring, backend)?;
    if tables && backend != Backend::Census {
        tables::run(ring)?;
    }
    Ok(())
}
