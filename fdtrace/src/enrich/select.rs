//! Whether a process uses select(2): what the kernel has seen, else what its files import.

use super::stacks::{Awaited, Stacks};
use crate::diagnose::select::Select;

/// A question that has been asked about a process while it was there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedSelect {
    called: Option<u32>,
    imports: Option<Awaited<Option<Select>>>,
}

impl AskedSelect {
    /// Asks; `called`: what the kernel has seen, see [`Select::Called`]. Where it has seen calls, nothing is read.
    pub fn ask(pid: u32, called: Option<u32>, stacks: &mut Stacks) -> Self {
        let ask = || stacks.answer(move |resolver| resolver.select_imports(pid));
        Self {
            called,
            imports: called.is_none().then(ask),
        }
    }

    /// The kernel may have seen calls since.
    pub fn now_called(&mut self, called: Option<u32>) {
        self.called = self.called.max(called);
    }

    /// Waits for the answer; `None`: nobody knows. Not for the loop that reads records.
    #[must_use]
    pub fn wait(&self) -> Option<Select> {
        match self.called {
            Some(most) => Some(Select::Called { most }),
            None => self.imports.as_ref()?.wait()?,
        }
    }
}
