//! From a file to items.

use std::io::{self, Read};

use fdtrace_common::change::{OpenRecord, ThreadRecord};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    MAGIC, Note, VERSION,
    chunk::{HEAD, Head},
    delta::{Delta, Trouble},
    encode::{NOTE, RECORD, SLOT, THREAD},
    input::Input,
};

/// Why a file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin as one.
    #[error("this is no recording of fdtrace's")]
    Other,
    /// From another time.
    #[error("this is a recording of version {0}, and this fdtrace reads version {VERSION}")]
    Version(String),
    /// Some bytes are not what was written.
    #[error("the recording is damaged in chunk {0}; what comes before it has been read")]
    Damaged(u32),
    /// The operating system says no.
    #[error("reading the recording")]
    Io(#[from] io::Error),
}

/// One item of a recording.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record of the ring: its bytes, which lie at a multiple of 8.
    Record(&'a [u8]),
    /// A thread that an iterator has shown.
    Thread(&'a ThreadRecord),
    /// A slot that an iterator has shown.
    Slot(&'a OpenRecord),
    /// Anything else.
    Note(Note),
    /// So many chunks are missing here.
    Hole(u32),
}

/// Reads a recording, whole or cut off.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Number of the next chunk.
    number: u32,
    /// The present chunk's items, and how many of their bytes have been read.
    items: Vec<u8>,
    at: usize,
    /// The present chunk is not all there.
    is_cut: bool,
    delta: Delta,
    /// The present record, at a multiple of 8.
    record: Vec<u64>,
}

impl<R: Read> Reader<R> {
    /// Reads the first line.
    pub fn new(mut input: R) -> Result<Self, Unreadable> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            if line.len() > MAGIC.len() + 10 || input.read(&mut byte)? == 0 {
                return Err(Unreadable::Other);
            }
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line);
        let version = line.trim_end().strip_prefix(MAGIC);
        let version = version.ok_or(Unreadable::Other)?;
        if version != VERSION.to_string() {
            return Err(Unreadable::Version(version.escape_default().to_string()));
        }
        Ok(Self {
            input,
            number: 0,
            items: Vec::new(),
            at: 0,
            is_cut: false,
            delta: Delta::default(),
            record: Vec::new(),
        })
    }

    /// The next item; `None` at the end, also where that has come too early.
    pub fn item(&mut self) -> Result<Option<Item<'_>>, Unreadable> {
        while self.at == self.items.len() {
            if self.is_cut {
                return Ok(None);
            }
            match self.chunk()? {
                None => return Ok(None),
                Some(0) => {}
                Some(missing) => return Ok(Some(Item::Hole(missing))),
            }
        }
        let mut input = Input(&self.items[self.at..]);
        match read(&mut input, &mut self.delta, &mut self.record) {
            Ok(read) => {
                self.at = self.items.len() - input.0.len();
                let damaged = Unreadable::Damaged(self.number - 1);
                whole(read, &self.record).map(Some).ok_or(damaged)
            }
            Err(Trouble::Ended) if self.is_cut => Ok(None),
            Err(_) => Err(Unreadable::Damaged(self.number - 1)),
        }
    }

    /// Takes the next chunk in; how many are missing before it.
    fn chunk(&mut self) -> Result<Option<u32>, Unreadable> {
        let mut head = [0; HEAD];
        match self.input.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let damaged = Unreadable::Damaged(self.number);
        let head = Head::read(head).filter(|head| head.number >= self.number);
        let Some(head) = head else {
            return Err(damaged);
        };
        self.items.clear();
        // As much as is there, whatever the head says.
        let mut input = (&mut self.input).take(u64::from(head.length));
        input.read_to_end(&mut self.items)?;
        self.is_cut = self.items.len() < head.length as usize;
        if !self.is_cut && crc32fast::hash(&self.items) != head.checksum {
            return Err(damaged);
        }
        self.at = 0;
        self.delta.clear();
        let missing = head.number - self.number;
        self.number = head.number + 1;
        Ok(Some(missing))
    }
}

/// An item whose record, if it is one, lies in the reader.
enum Raw {
    Record { tag: u8, length: usize },
    Note(Note),
}

fn read(input: &mut Input<'_>, delta: &mut Delta, record: &mut Vec<u64>) -> Result<Raw, Trouble> {
    let tag = input.byte()?;
    match tag {
        RECORD | THREAD | SLOT => {
            let words = delta.read(input)?;
            record.clear();
            record.resize(words.len().div_ceil(2), 0);
            let length = words.len() * 4;
            record.as_mut_bytes()[..length].copy_from_slice(words.as_bytes());
            Ok(Raw::Record { tag, length })
        }
        NOTE => {
            let length = input.number()? as usize;
            let text = input.bytes(length)?;
            let note = serde_json::from_slice(text).map_err(|_| Trouble::Nonsense)?;
            Ok(Raw::Note(note))
        }
        _ => Err(Trouble::Nonsense),
    }
}

fn whole(read: Raw, record: &[u64]) -> Option<Item<'_>> {
    match read {
        Raw::Note(note) => Some(Item::Note(note)),
        Raw::Record { tag, length } => {
            let bytes = record.as_bytes().get(..length)?;
            Some(match tag {
                THREAD => Item::Thread(ThreadRecord::ref_from_bytes(bytes).ok()?),
                SLOT => Item::Slot(OpenRecord::ref_from_bytes(bytes).ok()?),
                _ => Item::Record(bytes),
            })
        }
    }
}
