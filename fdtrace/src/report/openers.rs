//! Which lines of code have opened what fills a table: the most frequent stacks of each group.

use crate::{
    diagnose::holders::Holder,
    enrich::stacks::{AwaitedStacks, Counted, Stack, Stacks},
};

/// Stacks told of a group.
const STACKS_MAX: usize = 3;

/// The openers of some groups, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Openers {
    awaited: Vec<Option<AwaitedStacks>>,
    resolved: Vec<Vec<Counted>>,
}

impl Openers {
    /// Asks for them; what there is to know of these groups is known when [`Openers::resolve`] returns.
    pub fn ask<'a>(holders: impl Iterator<Item = &'a Holder>, stacks: &mut Stacks) -> Self {
        let ask = |holder: &Holder| {
            let sequences = holder.openers.clone();
            (!sequences.is_empty()).then(|| stacks.most_frequent(sequences, STACKS_MAX))
        };
        Self {
            awaited: holders.map(ask).collect(),
            resolved: Vec::new(),
        }
    }

    /// Waits for the answers. Not for the loop that reads records.
    pub fn resolve(&mut self) {
        if self.resolved.is_empty() {
            let wait = |awaited: &Option<AwaitedStacks>| {
                awaited
                    .as_ref()
                    .and_then(AwaitedStacks::wait)
                    .unwrap_or_default()
            };
            self.resolved = self.awaited.iter().map(wait).collect();
        }
    }

    /// Those of a group, the most frequent first.
    #[must_use]
    pub fn of(&self, index: usize) -> &[Counted] {
        self.resolved.get(index).map_or(&[], Vec::as_slice)
    }

    /// The line of code that most of the first group comes from.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let (_, stack) = self.of(0).first()?;
        stack.caller().map(ToString::to_string)
    }
}

/// Functions in a line, the innermost first.
#[must_use]
pub(super) fn line(stack: &Stack) -> String {
    const FRAMES: usize = 4;
    let frames = stack.from_caller();
    let mut words: Vec<_> = frames
        .iter()
        .take(FRAMES)
        .map(ToString::to_string)
        .collect();
    if frames.len() > FRAMES || stack.is_cut {
        words.push("...".to_owned());
    }
    words.join(" < ")
}
