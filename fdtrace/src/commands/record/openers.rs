//! Who has opened what, for a recording: resolved here, since a stack means nothing elsewhere.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use crate::{
    engine::{
        Engine,
        opener::{Sequence, Slot},
    },
    enrich::stacks::{Stack, Stacks},
    stream::recording::Note,
    tracker::Opener,
};

/// Openers that are kept to be written again, where a recording has to begin anew now and then.
const KEPT: usize = 16_384;
/// Slots in one note.
const SLOTS: usize = 4_096;

/// A slot, its stack's number, and the stack.
type Resolved = (Slot, Sequence, Arc<Stack>);

/// What is resolved meanwhile, and what is open.
pub(super) struct Openers {
    resolved: Receiver<Resolved>,
    sender: Sender<Resolved>,
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

    /// Has a stack resolved; the note says that it is to come.
    pub(super) fn ask(&self, opener: &Opener, stacks: &mut Stacks) -> Note {
        let (sender, sequence) = (self.sender.clone(), opener.sequence);
        let slot = (opener.files, opener.fd, opener.file);
        stacks.ask(move |resolver| {
            if let Some(stack) = resolver.stack(sequence) {
                // Nobody waits for it any more at the end.
                let _ = sender.send((slot, sequence, stack));
            }
        });
        Note::Taken {
            slot,
            number: sequence,
        }
    }

    /// Notes of those that have been resolved since.
    pub(super) fn notes(&mut self) -> Vec<Note> {
        let news: Vec<_> = self.resolved.try_iter().collect();
        if let Some(kept) = &mut self.kept {
            for (slot, _, stack) in &news {
                if kept.len() < KEPT || kept.contains_key(slot) {
                    kept.insert(*slot, Arc::clone(stack));
                }
            }
        }
        let news = news.iter();
        notes(news.map(|(slot, number, stack)| (*slot, Some(*number), stack)))
    }

    /// Notes of those whose fd is open, as far as they are kept.
    pub(super) fn all(&mut self, engine: &dyn Engine) -> Vec<Note> {
        let Some(kept) = &mut self.kept else {
            return Vec::new();
        };
        kept.retain(|slot, _| engine.has(*slot));
        notes(kept.iter().map(|(slot, stack)| (*slot, None, stack)))
    }
}

/// One for each stack, with all that it has opened.
fn notes<'a>(openers: impl Iterator<Item = (Slot, Option<Sequence>, &'a Arc<Stack>)>) -> Vec<Note> {
    let mut by_stack: HashMap<*const Stack, (&Arc<Stack>, Vec<_>)> = HashMap::new();
    for (slot, number, stack) in openers {
        let known = by_stack.entry(Arc::as_ptr(stack));
        let (_, slots) = known.or_insert_with(|| (stack, Vec::new()));
        slots.push((slot, number));
    }
    let mut notes = Vec::new();
    for (stack, slots) in by_stack.into_values() {
        notes.extend(slots.chunks(SLOTS).map(|slots| Note::Stack {
            stack: Stack::clone(stack),
            opened: slots.iter().map(|(slot, _)| *slot).collect(),
            numbers: slots.iter().filter_map(|(_, number)| *number).collect(),
        }));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrich::stacks::Frame, model::Model};

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
        let openers = [
            ((1, 3, 7), Some(1), &one),
            ((1, 4, 8), Some(2), &other),
            ((2, 3, 9), Some(3), &one),
        ];
        let mut notes = notes(openers.into_iter());
        notes.sort_by_key(|note| format!("{note:?}"));
        let expected = [
            (&one, vec![(1, 3, 7), (2, 3, 9)], vec![1, 3]),
            (&other, vec![(1, 4, 8)], vec![2]),
        ];
        let expected = expected.map(|(stack, opened, numbers)| Note::Stack {
            stack: Stack::clone(stack),
            opened,
            numbers,
        });
        assert_eq!(notes, expected);
    }

    #[test]
    fn those_of_closed_fds_are_not_written_again() {
        let mut openers = Openers::new(true);
        let _ = openers.sender.send(((1, 3, 7), 1, stack("one")));
        assert_eq!(openers.notes().len(), 1);
        assert!(openers.notes().is_empty());
        assert!(openers.all(&Model::default()).is_empty());
        assert!(openers.kept.unwrap().is_empty());
    }
}
