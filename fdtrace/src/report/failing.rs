//! The stack of the call that has failed.

use std::sync::{Arc, OnceLock};

use crate::{
    engine::opener::Sequence,
    enrich::stacks::{AwaitedStack, Stack, Stacks},
};

/// It is known when [`FailedIn::resolve`] returns. Clones share what has been asked for: the stack is forgotten with its
/// alarm, and a later report of the same failure is to say the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailedIn {
    sequence: Option<Sequence>,
    awaited: Arc<OnceLock<AwaitedStack>>,
    resolved: Option<Arc<Stack>>,
}

impl FailedIn {
    /// By its number; `None`: none was taken.
    #[must_use]
    pub fn new(sequence: Option<Sequence>) -> Self {
        Self {
            sequence,
            ..Self::default()
        }
    }

    /// This one, or another one where none was taken.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        if self.sequence.is_some() {
            self
        } else {
            other.clone()
        }
    }

    /// Asks for it, unless that has been done.
    pub fn ask(&self, stacks: &mut Stacks) {
        if let Some(sequence) = self.sequence {
            self.awaited.get_or_init(|| stacks.later(sequence));
        }
    }

    /// Waits for the answer. Not for the loop that reads records.
    pub fn resolve(&mut self) {
        if self.resolved.is_none() {
            let awaited = self.awaited.get();
            self.resolved = awaited.and_then(AwaitedStack::wait).flatten();
        }
    }

    /// As if it had been asked for and answered.
    #[cfg(test)]
    pub(super) fn resolved(stack: Arc<Stack>) -> Self {
        Self {
            resolved: Some(stack),
            ..Self::default()
        }
    }

    /// The stack, as far as it is known.
    #[must_use]
    pub fn stack(&self) -> Option<&Stack> {
        self.resolved.as_deref()
    }
}
