//! A record as what differs from the last one of its kind, word by word.
//!
//! ```text
//! record = context, [length in words, if the context is new], (words that are the same, words that
//!          differ, their differences…)…
//! ```
//!
//! Two openings in a row mostly differ in their number, their time and the address of their file: a
//! record of 120 bytes takes about 20.

use super::input::{Ended, Input, put_count, put_signed};

/// Words of a record at most: the largest there is has 1 064.
const WORDS_MAX: usize = 4_096;
/// Kinds of records at most: there are fewer than 20.
const CONTEXTS_MAX: usize = 64;

/// The last record of each kind.
#[derive(Debug, Default)]
pub(super) struct Delta {
    contexts: Vec<Vec<u32>>,
}

/// What could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The bytes end in the middle of it.
    Ended,
    /// No recorder writes that.
    Nonsense,
}

impl From<Ended> for Trouble {
    fn from(Ended: Ended) -> Self {
        Self::Ended
    }
}

impl Delta {
    /// Forgets all records.
    pub(super) fn clear(&mut self) {
        self.contexts.clear();
    }

    /// Writes a record; the first word tells its kind. Records that no reader would take are left out.
    pub(super) fn write(&mut self, words: &[u32], output: &mut Vec<u8>) {
        if words.is_empty() || words.len() > WORDS_MAX {
            return;
        }
        let is_alike = |last: &Vec<u32>| last.len() == words.len() && last[0] == words[0];
        let index = self.contexts.iter().position(is_alike);
        let index = index.unwrap_or(self.contexts.len());
        put_count(output, index);
        if index == self.contexts.len() {
            put_count(output, words.len());
            self.contexts.push(vec![0; words.len()]);
        }
        let last = &mut self.contexts[index];
        let mut at = 0;
        while at < words.len() {
            let pairs = || words.iter().zip(last.iter()).skip(at);
            let same = pairs().take_while(|(word, last)| word == last).count();
            let pairs = pairs().skip(same);
            let changed = pairs.take_while(|(word, last)| word != last).count();
            put_count(output, same);
            at += same;
            if changed == 0 {
                break;
            }
            put_count(output, changed);
            for (word, last) in words.iter().zip(last.iter()).skip(at).take(changed) {
                put_signed(output, word.wrapping_sub(*last).cast_signed());
            }
            at += changed;
        }
        last.copy_from_slice(words);
    }

    /// Reads a record.
    pub(super) fn read(&mut self, input: &mut Input<'_>) -> Result<&[u32], Trouble> {
        let index = input.number()? as usize;
        if index == self.contexts.len() && index < CONTEXTS_MAX {
            let length = input.number()? as usize;
            if !(1..=WORDS_MAX).contains(&length) {
                return Err(Trouble::Nonsense);
            }
            self.contexts.push(vec![0; length]);
        }
        let words = self.contexts.get_mut(index).ok_or(Trouble::Nonsense)?;
        let mut at = 0;
        while at < words.len() {
            at += input.number()? as usize;
            if at == words.len() {
                break;
            }
            let changed = input.number()? as usize;
            let end = at.checked_add(changed).filter(|_| changed > 0);
            let part = end.and_then(|end| words.get_mut(at..end));
            for word in part.ok_or(Trouble::Nonsense)? {
                *word = word.wrapping_add(input.signed()?.cast_unsigned());
            }
            at += changed;
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Vec<u32>> {
        let length = prop::sample::select(vec![1_usize, 2, 14, 30, 132]);
        (length, 0..4_u32, any::<u32>()).prop_flat_map(|(length, kind, seed)| {
            // Mostly the same words, as in real streams.
            let word = prop_oneof![8 => Just(seed % 7), 1 => any::<u32>()];
            prop::collection::vec(word, length).prop_map(move |mut words| {
                words[0] = kind;
                words
            })
        })
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec(record(), 0..40)) {
            let (mut writer, mut reader) = (Delta::default(), Delta::default());
            let mut bytes = Vec::new();
            for record in &records {
                writer.write(record, &mut bytes);
            }
            let mut input = Input(&bytes);
            for record in &records {
                prop_assert_eq!(reader.read(&mut input).unwrap(), record.as_slice());
            }
            prop_assert!(input.0.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (mut reader, mut input) = (Delta::default(), Input(&bytes));
            while reader.read(&mut input).is_ok() {}
        }
    }

    #[test]
    fn what_has_not_changed_costs_nothing() {
        let mut words = [7; 30];
        let (mut writer, mut bytes) = (Delta::default(), Vec::new());
        writer.write(&words, &mut bytes);
        bytes.clear();
        words[1] += 1;
        words[29] -= 3;
        writer.write(&words, &mut bytes);
        assert_eq!(bytes, [0, 1, 1, 2, 27, 1, 5]);
    }
}
