//! Memory that running programs and fdtrace have in common: what they are told, and what they count.
//!
//! Mapped, and not read and written by bpf(2): while a thread is in such a call on a map, no kprobe program
//! is entered on its CPU (`bpf_disable_instrumentation` in include/linux/bpf.h). On kernels that preempt
//! themselves it can lose that CPU in the middle, and others then change their tables there unseen: 35 calls
//! at a start under load on one CPU of 7.2.

use std::{collections::BTreeSet, mem::offset_of};

use anyhow::Result;
use aya::Ebpf;
use fdtrace_common::{
    alarm::{RepeatCell, StormKey},
    control::{
        COUNTERS, Control, Counters, NAMED_ANY, NAMED_WORDS, PHASE_ARMED, PHASE_SELF_TEST,
        PHASE_WATCHED,
    },
    stack::{STACKS_ALL, STACKS_NAMED, STACKS_NEVER},
};
use zerocopy::IntoBytes as _;

use super::words::Words;

/// The words of [`Control`].
const TICK: usize = 0;
const PHASE: usize = 1;
const NAMED: usize = 2;

/// The words of a [`RepeatCell`].
const SEQUENCE: usize = offset_of!(RepeatCell, sequence) / 8;
const PENDING: usize = offset_of!(RepeatCell, pending) / 8;
const KEY: usize = offset_of!(RepeatCell, key) / 8;
const NOW: usize = offset_of!(RepeatCell, now) / 8;
/// How many it has.
const CELL: usize = size_of::<RepeatCell>() / 8;

/// Whose changes of tables are told. Exhaustion always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Changes {
    /// Everybody's.
    #[default]
    All,
    /// Those of the tables given to `maps::watch_only`.
    Watched,
}

/// Whose stacks are taken, as far as the programs were loaded for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Openers {
    /// Nobody's.
    #[default]
    Nobody,
    /// Those of the tables given to `maps::take_stacks`: these, up to the first 0, or [`NAMED_ANY`].
    Named([u64; NAMED_WORDS]),
    /// Everybody's in scope.
    All,
}

impl Openers {
    /// Those of these tables, which must have been given to `maps::take_stacks`.
    #[must_use]
    pub fn named(tables: &BTreeSet<u64>) -> Self {
        if tables.is_empty() {
            return Self::Nobody;
        }
        let mut named = [0; NAMED_WORDS];
        if tables.len() > NAMED_WORDS {
            named[0] = NAMED_ANY;
        } else {
            for (word, files) in named.iter_mut().zip(tables) {
                *word = *files;
            }
        }
        Self::Named(named)
    }
}

/// What is shared.
pub struct Shared {
    control: Words,
    counters: Words,
    repeats: Words,
}

impl Shared {
    /// How many entries the map of counters is to have: one for each CPU that there can ever be.
    pub(super) fn cpus() -> Result<u32> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| {
            anyhow::Error::from(error).context(format!("counting CPUs in {path}"))
        })?;
        Ok(u32::try_from(cpus)?)
    }

    /// Maps both maps.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self> {
        let cpus = Self::cpus()? as usize;
        Ok(Self {
            control: Words::map(ebpf, "CONTROL", size_of::<Control>())?,
            counters: Words::map(ebpf, "LOST", size_of::<Counters>() * cpus)?,
            repeats: Words::map(ebpf, "REPEATS", size_of::<RepeatCell>() * cpus)?,
        })
    }

    /// Only this process's changes and failures are told from here on.
    pub(super) fn start_self_test(&self) {
        // No program runs yet, but one may have run in an earlier self-test.
        for index in 0..self.repeats.count() {
            self.repeats.store(index, 0);
        }
        self.set(1, PHASE_SELF_TEST, Openers::Nobody);
    }

    /// CPUs that there can ever be.
    #[must_use]
    pub fn cpu_count(&self) -> u32 {
        let cells = self.repeats.count() / CELL;
        u32::try_from(cells).unwrap_or(u32::MAX)
    }

    /// Failures of a kind, by CPU: `counted` reads the kernel's storm map, and what that lacks is added. It is
    /// asked between two looks at what is repeated, and again where a program was at work in between: what is
    /// moved from there into the map would count twice, or not at all. Where that goes on, two kinds take turns
    /// on a CPU, and hardly anything is repeated.
    pub fn with_repeats<E>(
        &self,
        key: &StormKey,
        mut counted: impl FnMut() -> Result<Vec<(u32, u64)>, E>,
    ) -> Result<Vec<(u32, u64)>, E> {
        const LOOKS: usize = 16;
        for _ in 0..LOOKS {
            let before = self.repeated(key);
            let mut sums = counted()?;
            let is_still = |(sequence, _): &(u64, u64)| sequence % 2 == 0;
            let after = self.repeated(key);
            let sequences = |repeated: &[(u64, u64)]| -> Vec<u64> {
                repeated.iter().map(|(sequence, _)| *sequence).collect()
            };
            if before.iter().all(is_still) && sequences(&before) == sequences(&after) {
                for ((_, count), (_, pending)) in sums.iter_mut().zip(before) {
                    *count += pending;
                }
                return Ok(sums);
            }
        }
        counted()
    }

    /// Failures of all kinds that are repeated, for when no program runs.
    pub(super) fn all_repeats(&self) -> u64 {
        let cells = (0..self.repeats.count()).step_by(CELL);
        cells.map(|cell| self.repeats.load(cell + PENDING)).sum()
    }

    /// What is repeated of a kind on each CPU: the sequence number and how many failures; two zeroes where
    /// something else is.
    fn repeated(&self, key: &StormKey) -> Vec<(u64, u64)> {
        let cells = (0..self.repeats.count()).step_by(CELL);
        let repeated = |(cpu, cell): (u32, usize)| {
            let sequence = self.repeats.load(cell + SEQUENCE);
            let key = StormKey { cpu, ..*key };
            let mut words = key.as_bytes().chunks_exact(8).zip(cell + KEY..);
            let is_it = words.all(|(word, index)| {
                let word = word.first_chunk().map(|word| u64::from_ne_bytes(*word));
                word == Some(self.repeats.load(index))
            });
            if is_it {
                (sequence, self.repeats.load(cell + PENDING))
            } else {
                (0, 0)
            }
        };
        (0..).zip(cells).map(repeated).collect()
    }

    /// What is told from here on; `tick` as in [`Control::tick`].
    pub fn arm(&self, tick: u64, changes: Changes, openers: Openers) {
        let phase = match changes {
            Changes::All => PHASE_ARMED,
            Changes::Watched => PHASE_WATCHED,
        };
        self.set(tick, phase, openers);
    }

    fn set(&self, tick: u64, phase: u32, openers: Openers) {
        let (stacks, named) = match openers {
            Openers::Nobody => (STACKS_NEVER, [0; NAMED_WORDS]),
            Openers::Named(named) => (STACKS_NAMED, named),
            Openers::All => (STACKS_ALL, [NAMED_ANY; NAMED_WORDS]),
        };
        self.control.store(TICK, tick);
        for cell in (0..self.repeats.count()).step_by(CELL) {
            self.repeats.store(cell + NOW, tick);
        }
        for (index, files) in (NAMED..).zip(named) {
            self.control.store(index, files);
        }
        // The phase and what is behind it are one word, whichever end comes first.
        let word = [phase.to_ne_bytes(), stacks.to_ne_bytes()].concat();
        let word = word
            .first_chunk()
            .map_or(0, |word| u64::from_ne_bytes(*word));
        self.control.store(PHASE, word);
    }

    /// The loss counters, summed over CPUs, by their `COUNTER_` constants.
    #[must_use]
    pub fn counters(&self) -> [u64; COUNTERS] {
        let mut sums = [0; COUNTERS];
        let stride = size_of::<Counters>() / 8;
        for first in (0..self.counters.count()).step_by(stride) {
            for (sum, index) in sums.iter_mut().zip(first..) {
                *sum += self.counters.load(index);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_one_by_one_while_there_is_room() {
        let named = |count: u64| Openers::named(&(1..=count).collect());
        assert_eq!(named(0), Openers::Nobody);
        assert_eq!(named(2), Openers::Named([1, 2, 0, 0, 0, 0]));
        assert_eq!(named(6), Openers::Named([1, 2, 3, 4, 5, 6]));
        let Openers::Named(words) = named(7) else {
            panic!("seven tables are named");
        };
        assert_eq!(words[0], NAMED_ANY, "the map has to be asked");
    }
}
