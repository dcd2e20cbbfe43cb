//! Who has opened what, for a recording: resolved here, since a stack means nothing elsewhere.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use crate::{
    enrich::stacks::{Stack, Stacks},
    model::{openers::Slot, tables::Tables},
    stream::recording::Note,
    tracker::Opener,
};

/// Openers that are kept to be written again, where a recording has to begin anew now and then.
const KEPT: usize = 16_384;
/// Slots in one note.
const SLOTS: usize = 4_096;

/// What is resolved meanwhile, and what is open.
pub(super) struct Openers {
    resolved: Receiver<(Slot, Arc<Stack>)>,
    sender: Sender<(Slot, Arc<Stack>)>,
    /// Only where a recording begins anew.
    kept: Option<HashMap<Slot, Arc<Stack>>>,
}

impl Openers {
    pub(super) fn new(begins_anew: bool) -> Self {
        let (sender, resolved) = channel();
        Self {
            resolved,
            sender,
            kept: begins_anew.then(HashMap::new),
        }
    }

    /// Has a stack resolved.
    pub(super) fn ask(&self, opener: &Opener, stacks: &mut Stacks) {
        let (sender, opener) = (self.sender.clone(), *opener);
        stacks.ask(move |resolver| {
            if let Some(stack) = resolver.stack(opener.sequence) {
                // Nobody waits for it any more at the end.
                let _ = sender.send(((opener.files, opener.fd, opener.file), stack));
            }
        });
    }

    /// Notes of those that have been resolved since.
    pub(super) fn notes(&mut self) -> Vec<Note> {
        let news: Vec<_> = self.resolved.try_iter().collect();
        if let Some(kept) = &mut self.kept {
            for (slot, stack) in &news {
                if kept.len() < KEPT || kept.contains_key(slot) {
                    kept.insert(*slot, Arc::clone(stack));
                }
            }
        }
        notes(news.iter().map(|(slot, stack)| (*slot, stack)))
    }

    /// Notes of those whose fd is open, as far as they are kept.
    pub(super) fn all(&mut self, tables: &Tables) -> Vec<Note> {
        let Some(kept) = &mut self.kept else {
            return Vec::new();
        };
        kept.retain(|(files, fd, file), _| {
            let slot = tables.table(*files).and_then(|table| table.get(*fd));
            slot.is_some_and(|slot| slot.file == *file)
        });
        notes(kept.iter().map(|(slot, stack)| (*slot, stack)))
    }
}

/// One for each stack, with all that it has opened.
fn notes<'a>(openers: impl Iterator<Item = (Slot, &'a Arc<Stack>)>) -> Vec<Note> {
    let mut by_stack: HashMap<*const Stack, (&Arc<Stack>, Vec<Slot>)> = HashMap::new();
    for (slot, stack) in openers {
        let known = by_stack.entry(Arc::as_ptr(stack));
        known.or_insert_with(|| (stack, Vec::new())).1.push(slot);
    }
    let mut notes = Vec::new();
    for (stack, slots) in by_stack.into_values() {
        notes.extend(slots.chunks(SLOTS).map(|slots| Note::Stack {
            stack: Stack::clone(stack),
            opened: slots.to_vec(),
        }));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::stacks::Frame;

    fn stack(function: &str) -> Arc<Stack> {
        let frame = Frame {
            function: Some(function.to_owned()),
            ..Frame::default()
        };
        Arc::new(Stack {
            frames: vec![frame],
            ..Stack::default()
        })
    }

    #[test]
    fn each_stack_is_written_once_with_all_that_it_has_opened() {
        let (one, other) = (stack("one"), stack("other"));
        let openers = [((1, 3, 7), &one), ((1, 4, 8), &other), ((2, 3, 9), &one)];
        let mut notes = notes(openers.into_iter());
        notes.sort_by_key(|note| format!("{note:?}"));
        let expected = [
            (&one, vec![(1, 3, 7), (2, 3, 9)]),
            (&other, vec![(1, 4, 8)]),
        ];
        let expected = expected.map(|(stack, opened)| Note::Stack {
            stack: Stack::clone(stack),
            opened,
        });
        assert_eq!(notes, expected);
    }

    #[test]
    fn those_of_closed_fds_are_not_written_again() {
        let mut openers = Openers::new(true);
        let _ = openers.sender.send(((1, 3, 7), stack("one")));
        assert_eq!(openers.notes().len(), 1);
        assert!(openers.notes().is_empty());
        assert!(openers.all(&Tables::default()).is_empty());
        assert!(openers.kept.unwrap().is_empty());
    }
}
