//! What the kernel's iterators show of all tables, for a pass of the reconciliation.

use anyhow::Result;
use aya::{Btf, Ebpf};
use fdtrace_common::change::{OpenRecord, ThreadRecord};
use zerocopy::FromBytes;

use super::{
    census::{self, Iterator},
    rows::Rows,
    targets::Targets,
};

const THREADS: Iterator = census::tasks("census_threads");
const SLOTS: Iterator = census::files("slots_seen");

/// Loads the programs, by types that have been read already.
pub(super) fn load(ebpf: &mut Ebpf, types: &Btf) -> Result<()> {
    census::load(ebpf, types, THREADS)?;
    census::load(ebpf, types, SLOTS)
}

/// All threads that have a table.
pub fn threads(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<ThreadRecord>> {
    let bytes = census::run(ebpf, targets, THREADS)?;
    let records = bytes.chunks_exact(size_of::<ThreadRecord>());
    Ok(records
        .filter_map(|bytes| ThreadRecord::read_from_bytes(bytes).ok())
        .collect())
}

/// All open fds. Behind the last one the mark is in the ring.
pub fn slots(ebpf: &mut Ebpf, targets: &Targets) -> Result<Rows<OpenRecord>> {
    Rows::open(ebpf, targets, SLOTS)
}
