//! What the kernel's iterators show of all tables, for a pass of the reconciliation.

use std::{
    fs::File,
    io::{ErrorKind, Read},
};

use anyhow::{Context, Result};
use aya::{Btf, Ebpf};
use fdtrace_common::change::{OpenRecord, ThreadRecord};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    census::{self, Iterator},
    targets::Targets,
};

/// Bytes read at a time: the kernel hands out a few pages at once.
const CHUNK: usize = 64 * 1024;

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

/// All open fds, a few hundred at a time, so that the ring can be read in between.
pub struct Slots {
    output: File,
    /// Words, because records have to lie at multiples of 8.
    room: Vec<u64>,
    filled: usize,
}

impl Slots {
    /// Starts the iterator.
    pub fn open(ebpf: &mut Ebpf, targets: &Targets) -> Result<Self> {
        Ok(Self {
            output: census::open(ebpf, targets, SLOTS)?,
            room: vec![0; CHUNK / 8],
            filled: 0,
        })
    }

    /// Hands over some more; false when there are none left, and the mark is in the ring.
    pub fn next(&mut self, mut handle: impl FnMut(&OpenRecord)) -> Result<bool> {
        const SIZE: usize = size_of::<OpenRecord>();
        let room = self.room.as_mut_slice().as_mut_bytes();
        match self.output.read(&mut room[self.filled..]) {
            Ok(0) => return Ok(false),
            Ok(length) => self.filled += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            // The kernel stops after a million objects of which nothing was written.
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                return Ok(true);
            }
            Err(error) => return Err(error).context("reading the task_file iterator"),
        }
        let whole = self.filled - self.filled % SIZE;
        for bytes in room[..whole].chunks_exact(SIZE) {
            if let Ok(record) = OpenRecord::ref_from_bytes(bytes) {
                handle(record);
            }
        }
        room.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(true)
    }
}
