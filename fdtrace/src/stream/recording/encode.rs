//! From events to chunks.

use zerocopy::{FromBytes, IntoBytes};

use super::{Event, chunk::HEAD, delta::Delta, input::put_count};

/// Bytes of items after which a chunk is full.
const FULL: usize = 64 * 1024;

/// The kinds of items.
pub(super) const RECORD: u8 = 0;
pub(super) const THREAD: u8 = 1;
pub(super) const SLOT: u8 = 2;
pub(super) const NOTE: u8 = 3;

/// Collects events until there are enough for a chunk.
#[derive(Debug)]
pub struct Encoder {
    /// Room for the head, then items.
    chunk: Vec<u8>,
    delta: Delta,
    /// A record's words; the kernel's are not always where words may lie.
    words: Vec<u32>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            chunk: vec![0; HEAD],
            delta: Delta::default(),
            words: Vec::new(),
        }
    }
}

impl Encoder {
    /// Takes an event down.
    pub fn add(&mut self, event: Event<'_>) {
        match event {
            Event::Record(bytes) => self.record(RECORD, bytes),
            Event::Thread(record) => self.record(THREAD, record.as_bytes()),
            Event::Slot(record) => self.record(SLOT, record.as_bytes()),
            Event::Note(note) => {
                // Nothing in a note can fail to become JSON.
                let text = serde_json::to_vec(note).unwrap_or_default();
                self.chunk.push(NOTE);
                put_count(&mut self.chunk, text.len());
                self.chunk.extend_from_slice(&text);
            }
        }
    }

    fn record(&mut self, tag: u8, bytes: &[u8]) {
        self.words.clear();
        let words = bytes.chunks_exact(4);
        let words = words.map(|word| u32::read_from_bytes(word).unwrap_or_default());
        self.words.extend(words);
        if !self.words.is_empty() {
            self.chunk.push(tag);
            self.delta.write(&self.words, &mut self.chunk);
        }
    }

    /// Is there enough for a chunk?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.chunk.len() >= FULL
    }

    /// The chunk, if there is anything in it; [`super::number`] completes it.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.chunk.len() <= HEAD {
            return None;
        }
        self.delta.clear();
        Some(std::mem::replace(&mut self.chunk, vec![0; HEAD]))
    }
}
