//! Facts of a recording that wait until the recording has told all that was asked for when they happened:
//! stacks, and what was looked up. Live, the thread that writes waits for them in the same way.

use std::collections::VecDeque;

/// Facts that wait at most.
const WAITING: usize = 4_096;

/// What waits, in order. What comes out when is decided by the recording alone.
#[derive(Debug)]
pub(in crate::commands) struct Late<T> {
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Late<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Late<T> {
    /// Waits for answers to what is asked from this moment on, nanoseconds since boot.
    pub(in crate::commands) fn push(&mut self, waiting: T, now_ns: u64) {
        self.waiting.push_back((now_ns, waiting));
    }

    /// The next one that need not wait any longer, when everything has been answered that was asked for up
    /// to then. What was asked for at that very moment may be among what comes next.
    pub(in crate::commands) fn ready(&mut self, until_ns: u64) -> Option<T> {
        let is_crowded = self.waiting.len() > WAITING;
        let is_ready = |(since_ns, _): &mut (u64, T)| is_crowded || *since_ns < until_ns;
        self.waiting.pop_front_if(is_ready).map(|(_, ready)| ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(late: &mut Late<u64>, until_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| late.ready(until_ns)).collect()
    }

    #[test]
    fn what_happened_before_the_answers_comes_out_in_order() {
        let mut late = Late::default();
        for moment in [1, 2, 2, 3] {
            late.push(moment, moment);
        }
        assert_eq!(ready(&mut late, 2), [1]);
        assert_eq!(ready(&mut late, 3), [2, 2]);
        assert_eq!(ready(&mut late, u64::MAX), [3]);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut late = Late::default();
        let count = WAITING as u64 + 3;
        (0..count).for_each(|moment| late.push(moment, 7));
        assert_eq!(ready(&mut late, 7), [0, 1, 2]);
    }
}
