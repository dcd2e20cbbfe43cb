//! Rows that an iterator's program writes, some at a time.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    marker::PhantomData,
};

use anyhow::{Context, Result};
use aya::Ebpf;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    census::{self, Iterator},
    targets::Targets,
};

/// Bytes read at a time: the kernel hands out a few pages at once.
const CHUNK: usize = 64 * 1024;

/// The rows of an iterator that has been started, a few hundred at a time, so that the ring can be read in between.
pub struct Rows<T> {
    output: File,
    /// Words, because records have to lie at multiples of 8.
    room: Vec<u64>,
    filled: usize,
    row: PhantomData<T>,
}

impl<T: FromBytes + KnownLayout + Immutable> Rows<T> {
    /// Starts the iterator.
    pub(super) fn open(ebpf: &mut Ebpf, targets: &Targets, iterator: Iterator) -> Result<Self> {
        Ok(Self {
            output: census::open(ebpf, targets, iterator)?,
            room: vec![0; CHUNK / 8],
            filled: 0,
            row: PhantomData,
        })
    }

    /// Hands over some more; false when there are none left.
    pub fn next(&mut self, mut handle: impl FnMut(&T)) -> Result<bool> {
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
        let whole = self.filled - self.filled % size_of::<T>();
        for bytes in room[..whole].chunks_exact(size_of::<T>()) {
            if let Ok(record) = T::ref_from_bytes(bytes) {
                handle(record);
            }
        }
        room.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(true)
    }
}
