//! Another process's memory, or what stands for it.

use std::{fs::File, os::unix::fs::FileExt};

/// Bytes by address. Any address may be asked for.
pub trait Memory {
    /// All of these bytes; `None` where one of them cannot be read.
    fn read(&self, at: u64, to: &mut [u8]) -> Option<()>;

    /// So many bytes.
    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Some(bytes)
    }

    /// A word.
    fn word(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// Text up to a NUL, which must be there within 64 bytes.
    fn text(&self, at: u64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < 64 {
            // By words, so that no page is touched that the text is not in.
            let at = at.checked_add(text.len() as u64)?;
            let part = 8 - usize::try_from(at % 8).ok()?;
            let mut bytes = [0; 8];
            let bytes = bytes.get_mut(..part)?;
            self.read(at, bytes)?;
            let length = bytes.iter().position(|byte| *byte == 0);
            text.extend_from_slice(&bytes[..length.unwrap_or(part)]);
            if length.is_some() {
                return Some(text);
            }
        }
        None
    }
}

impl Memory for File {
    fn read(&self, at: u64, to: &mut [u8]) -> Option<()> {
        // Offsets of files are signed; no process has memory that far up.
        i64::try_from(at).ok()?;
        self.read_exact_at(to, at).ok()
    }
}
