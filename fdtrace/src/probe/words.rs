//! Maps of the kernel's in this process's memory: the one place where they are touched.
//!
//! Running programs write them at any moment, so that all there is on this side are loads and stores of whole words,
//! each atomic and none in an order.

use std::{
    num::NonZero,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, maps::Map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A map's values as words.
pub(super) struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
}

#[expect(unsafe_code, reason = "memory that the kernel's programs write")]
impl Words {
    /// Maps an array of so many bytes.
    pub(super) fn map(ebpf: &Ebpf, name: &str, size: usize) -> Result<Self> {
        let Some(Map::Array(map)) = ebpf.map(name) else {
            bail!("no map {name} in the kernel object");
        };
        let length = NonZero::new(size).context("a map without values")?;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                length.get(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd(),
                0,
            )
        };
        let address = address.with_context(|| format!("mapping the map {name}"))?;
        Ok(Self {
            first: NonNull::new(address.cast()).context("a mapping at 0")?,
            count: size / 8,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.count {
            return None;
        }
        // SAFETY: within the mapping.
        let word = unsafe { self.first.add(index) };
        // SAFETY: the mapping lives as long as `self`; every access on this side is atomic, and of a word
        // on the other one.
        Some(unsafe { word.as_ref() })
    }

    /// A word; 0 where there is none.
    pub(super) fn load(&self, index: usize) -> u64 {
        let word = self.word(index);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Writes a word, if there is one.
    pub(super) fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for Words {
    #[expect(unsafe_code, reason = "the mapping ends here")]
    fn drop(&mut self) {
        // SAFETY: what `map` has mapped, and nobody refers to any more.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.count * 8) };
    }
}
