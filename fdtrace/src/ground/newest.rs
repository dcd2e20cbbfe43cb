//! The newest answers of a kind, in bounded memory.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Answers that are kept: at least so many of the newest, and at most twice as many.
const KEPT: usize = 1 << 16;

/// Answers, by what they are about.
#[derive(Debug)]
pub struct Newest<K, V> {
    new: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
}

impl<K, V> Default for Newest<K, V> {
    fn default() -> Self {
        Self {
            new: FxHashMap::default(),
            old: FxHashMap::default(),
        }
    }
}

impl<K: Eq + Hash, V> Newest<K, V> {
    /// An answer, in place of an older one.
    pub fn insert(&mut self, key: K, value: V) {
        if self.new.len() >= KEPT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
    }

    /// The last answer.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.new.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_memory_is_bounded() {
        let mut newest = Newest::default();
        let count = 3 * KEPT;
        for key in 0..count {
            newest.insert(key, ());
        }
        assert!(newest.new.len() + newest.old.len() <= 2 * KEPT);
        assert!((count - KEPT..count).all(|key| newest.get(&key).is_some()));
    }
}
