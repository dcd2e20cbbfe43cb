//! What makes two stacks the same code path.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::stack::{Frame, Stack};

/// A stack as a key: equal where the same lines of code have called each other.
///
/// Which instruction of a line it was makes no difference (an unrolled loop has several), and where no
/// line is known it is all that there is to go by.
#[derive(Clone, Debug)]
pub struct CodePath(pub Arc<Stack>);

/// All of a frame that counts.
fn key(frame: &Frame) -> impl Eq + Hash + '_ {
    let address = frame.line.is_none().then_some(frame.address);
    (
        &frame.function,
        &frame.module,
        &frame.file,
        frame.line,
        frame.is_inlined,
        address,
    )
}

impl PartialEq for CodePath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.is_cut == other.0.is_cut
                && self.0.script == other.0.script
                && self.0.frames.len() == other.0.frames.len()
                && self
                    .0
                    .frames
                    .iter()
                    .zip(&other.0.frames)
                    .all(|(one, other)| key(one) == key(other))
    }
}

impl Eq for CodePath {}

impl Hash for CodePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for frame in &self.0.frames {
            key(frame).hash(state);
        }
    }
}

#[cfg(test)]
mod tests;
