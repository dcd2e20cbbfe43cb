//! A stream in a file, to be read back in place of the kernel.
//!
//! A recording holds everything that a stream is made of, in the order in which fdtrace met it, so that
//! the model and the reports come out the same, byte for byte: the ring's records as they were, what the
//! iterators have shown in each pass, and [`Note`]s of what was asked of the host meanwhile.
//!
//! ```text
//! file   = "fdtrace recording 1\n" chunk…
//! chunk  = number, length of the items, their CRC-32, CRC-32 of these three, item…
//!          (each a u32, little endian)
//! item   = 0 record | 1 thread shown by an iterator | 2 slot shown by an iterator | 3 note
//! ```
//!
//! Notes are JSON behind their length. The others are wire records of `fdtrace-common`, of which only
//! the words are written that differ from the last record of the same kind (`delta`). Every chunk begins
//! anew, so that one can be left out (`--flight`, a disk that is too slow), and a file that was cut off
//! can be read up to its last whole item.

mod chunk;
mod delta;
mod encode;
mod input;
mod note;
mod reader;

pub use self::{
    chunk::{number, seal},
    encode::Encoder,
    note::{Note, Start, key_from_words, key_to_words},
    reader::{Item, Reader, Unreadable},
};

use fdtrace_common::change::{OpenRecord, ThreadRecord};

/// The first line of a recording, up to the number of its version.
pub const MAGIC: &str = "fdtrace recording ";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// One thing that a stream is made of.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A record of the ring, as its bytes.
    Record(&'a [u8]),
    /// A thread that an iterator has shown in a pass.
    Thread(&'a ThreadRecord),
    /// A slot that an iterator has shown in a pass.
    Slot(&'a OpenRecord),
    /// Anything else.
    Note(&'a Note),
}

/// The first line of a file.
#[must_use]
pub fn first_line() -> Vec<u8> {
    format!("{MAGIC}{VERSION}\n").into_bytes()
}

#[cfg(test)]
mod tests;
