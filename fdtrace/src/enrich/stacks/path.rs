//! What makes two stacks the same code path.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::stack::{Frame, Stack};

/// How much of a stack tells it from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What a line of text has room for: [`Stack::shown`].
    Shown,
    /// All functions: what JSON and folded stacks have.
    Full,
}

/// A stack as a key: equal where whoever reads them sees the same.
///
/// What is not written makes no difference: which instruction of a line it was (an unrolled loop has several), or of
/// a function whose lines are not known; and, in a line of text, the functions beyond its end. Otherwise one leak would
/// be several rows that look alike.
#[derive(Clone, Debug)]
pub struct CodePath {
    /// The stack, or one of those that are equal.
    pub stack: Arc<Stack>,
    detail: Detail,
}

impl CodePath {
    /// By so much of it.
    #[must_use]
    pub fn new(stack: Arc<Stack>, detail: Detail) -> Self {
        Self { stack, detail }
    }

    fn frames(&self) -> &[Frame] {
        match self.detail {
            Detail::Shown => self.stack.shown(),
            Detail::Full => &self.stack.frames,
        }
    }
}

/// All of a frame that its [`Display`](std::fmt::Display) shows.
fn key(frame: &Frame) -> impl Eq + Hash + '_ {
    let has_source = frame.function.is_some() && frame.file.is_some();
    (
        &frame.function,
        &frame.file,
        frame.line.filter(|_| has_source),
        frame.module.as_deref().filter(|_| !has_source),
        frame.function.is_none().then_some(frame.address),
    )
}

impl PartialEq for CodePath {
    fn eq(&self, other: &Self) -> bool {
        let is_same = || {
            let (one, other) = (self.frames(), other.frames());
            let mut frames = one.iter().zip(other);
            one.len() == other.len() && frames.all(|(one, other)| key(one) == key(other))
        };
        Arc::ptr_eq(&self.stack, &other.stack)
            || self.stack.script == other.stack.script && is_same()
    }
}

impl Eq for CodePath {}

impl Hash for CodePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for frame in self.frames() {
            key(frame).hash(state);
        }
    }
}

#[cfg(test)]
mod tests;
