//! Which lines of code have opened what fills a table: the most frequent stacks of each group.

use std::sync::{Arc, OnceLock};

use super::{page::Page, stack};
use crate::{
    diagnose::holders::Holder,
    enrich::stacks::{AwaitedStacks, Frequent, Stack, Stacks},
};

/// Stacks told of a group.
const STACKS_MAX: usize = 3;

/// The openers of some groups, in their order. Clones share what has been asked for: the stacks of fds that
/// are closed are forgotten, and a later report of the same groups is to say the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Openers {
    awaited: Arc<OnceLock<Vec<Option<AwaitedStacks>>>>,
    resolved: Vec<Frequent>,
}

impl Openers {
    /// Asks for them, unless that has been done; what there is to know of these groups is known when
    /// [`Openers::resolve`] returns.
    pub fn ask<'a>(&self, holders: impl Iterator<Item = &'a Holder>, stacks: &mut Stacks) {
        let ask = |holder: &Holder| {
            let sequences = holder.openers.clone();
            (!sequences.is_empty()).then(|| stacks.most_frequent(sequences, STACKS_MAX))
        };
        self.awaited.get_or_init(|| holders.map(ask).collect());
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
            let awaited = self.awaited.get().into_iter().flatten();
            self.resolved = awaited.map(wait).collect();
        }
    }

    /// As if these had been asked for and answered.
    #[cfg(test)]
    pub(super) fn resolved(resolved: Vec<Frequent>) -> Self {
        Self {
            resolved,
            ..Self::default()
        }
    }

    /// Those of a group, as far as they are known.
    #[must_use]
    pub fn of(&self, index: usize) -> Option<&Frequent> {
        self.resolved.get(index)
    }

    /// The line of code that most of the first group comes from; `None` where it is an address that nobody can look up.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let (_, stack) = self.of(0)?.most.first()?;
        if stack.is_of_script_only() {
            return Some(stack::line(stack, Page::PLAIN));
        }
        let caller = stack.caller()?;
        let is_named = caller.function.is_some() || stack.script.is_some();
        is_named.then(|| stack::with_script(stack, caller.to_string()))
    }

    /// A stack of the first group whose functions have no names, though their runtime could tell them.
    #[must_use]
    pub fn nameless(&self) -> Option<&Stack> {
        let (_, stack) = self.of(0)?.most.first()?;
        Some(&**stack).filter(|stack| stack.nameless.is_some())
    }

    /// Is it a program in Go, by the names of the functions that have opened most?
    #[must_use]
    pub fn is_go(&self) -> bool {
        let mut stacks = self.resolved.iter().flat_map(|openers| &openers.most);
        stacks.any(|(_, stack)| stack.is_go())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrich::stacks::Frame, report::page::Page};

    #[test]
    fn the_script_goes_before_the_functions_of_its_interpreter() {
        let frame = |function: &str| Frame {
            function: Some(function.to_owned()),
            ..Frame::default()
        };
        let mut stack = Stack {
            frames: ["a", "b", "c", "d", "e"].map(frame).to_vec(),
            ..Stack::default()
        };
        assert_eq!(stack::line(&stack, Page::PLAIN), "a < b < c < d < ...");
        stack.script = Some("/srv/app.py".to_owned());
        assert_eq!(
            stack::line(&stack, Page::PLAIN),
            "/srv/app.py: a < b < c < d < ..."
        );
        let openers = Openers::resolved(vec![Frequent {
            most: vec![(1, stack.into())],
            others: 0,
        }]);
        assert_eq!(openers.line().as_deref(), Some("/srv/app.py: a"));
        let nameless = Stack {
            frames: vec![Frame::default()],
            ..Stack::default()
        };
        let openers = Openers::resolved(vec![Frequent {
            most: vec![(1, nameless.into())],
            others: 0,
        }]);
        assert_eq!(openers.line(), None, "an address");
    }
}
