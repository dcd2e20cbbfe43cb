//! Facts of a recording in their order: a change waits for its stack, which the recording tells later, when it
//! had been resolved, and whatever comes behind it waits too.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{engine::opener::Sequence, enrich::stacks::Stack, report::fact::Fact};

/// Facts that wait at most.
const FACTS: usize = 1 << 16;
/// A stack that is not told for so long, nanoseconds of the recording, is not told any more: it was dropped
/// or is in a part that is missing.
const PATIENCE_NS: u64 = 10_000_000_000;

/// A fact that waits.
struct Waiting {
    fact: Fact,
    /// The stack that it waits for.
    number: Option<Sequence>,
    since_ns: u64,
}

/// Facts that wait. What comes out, and in which order, is decided by the recording alone.
#[derive(Default)]
pub(super) struct Held {
    facts: VecDeque<Waiting>,
    /// The stacks that are waited for.
    stacks: FxHashMap<Sequence, Option<Arc<Stack>>>,
}

impl Held {
    /// A fact, and the number of the stack that belongs to it.
    pub(super) fn push(&mut self, fact: Fact, number: Option<Sequence>, now_ns: u64) {
        if let Some(number) = number {
            self.stacks.entry(number).or_default();
        }
        self.facts.push_back(Waiting {
            fact,
            number,
            since_ns: now_ns,
        });
    }

    /// These have been told.
    pub(super) fn resolved(&mut self, numbers: &[Sequence], stack: &Arc<Stack>) {
        for number in numbers {
            if let Some(awaited) = self.stacks.get_mut(number) {
                *awaited = Some(Arc::clone(stack));
            }
        }
    }

    /// The next fact that need not wait any longer.
    pub(super) fn ready(&mut self, now_ns: u64) -> Option<Fact> {
        let first = self.facts.front()?;
        let is_late =
            self.facts.len() > FACTS || first.since_ns.saturating_add(PATIENCE_NS) <= now_ns;
        let awaited = first.number.and_then(|number| self.stacks.get(&number));
        if matches!(awaited, Some(None)) && !is_late {
            return None;
        }
        self.next()
    }

    /// The next fact, whatever it waits for.
    pub(super) fn next(&mut self) -> Option<Fact> {
        let Waiting {
            mut fact, number, ..
        } = self.facts.pop_front()?;
        let stack = number.and_then(|number| self.stacks.remove(&number));
        if let Fact::Event(event) = &mut fact {
            event.stack = stack.flatten();
        }
        Some(fact)
    }
}

#[cfg(test)]
mod tests;
