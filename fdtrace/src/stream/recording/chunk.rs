//! Chunks: the pieces that a file is written in, each complete in itself.

/// Bytes in front of a chunk's items.
pub(super) const HEAD: usize = 16;
/// Bytes of a chunk's items at most. One is handed over long before.
const LENGTH_MAX: usize = 1 << 24;

/// What stands in front of the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Counted from 0; a number that is missing is a hole.
    pub(super) number: u32,
    /// Bytes of the items.
    pub(super) length: u32,
    /// Their CRC-32.
    pub(super) checksum: u32,
}

impl Head {
    pub(super) fn of(number: u32, items: &[u8]) -> Self {
        Self {
            number,
            length: u32::try_from(items.len()).unwrap_or(u32::MAX),
            checksum: crc32fast::hash(items),
        }
    }

    /// Three words, and their own CRC-32: a length that is wrong must not be believed.
    pub(super) fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let (words, own) = bytes.split_at_mut(HEAD - 4);
        let values = [self.number, self.length, self.checksum];
        for (part, value) in words.chunks_exact_mut(4).zip(values) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        own.copy_from_slice(&crc32fast::hash(words).to_le_bytes());
        bytes
    }

    /// `None` where these bytes are no head.
    pub(super) fn read(bytes: [u8; HEAD]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let head = Self {
            number: word(0)?,
            length: word(4)?,
            checksum: word(8)?,
        };
        let is_sane = head.length as usize <= LENGTH_MAX && head.number < u32::MAX;
        (is_sane && head.bytes() == bytes).then_some(head)
    }
}

/// Gives a whole chunk the number that it has in its file.
pub fn number(chunk: &mut [u8], number: u32) {
    let Some((place, items)) = chunk.split_first_chunk_mut() else {
        return;
    };
    *place = Head::of(number, items).bytes();
}

/// Any bytes as the items of a whole chunk.
#[must_use]
pub fn seal(items: &[u8], number: u32) -> Vec<u8> {
    [&Head::of(number, items).bytes(), items].concat()
}
