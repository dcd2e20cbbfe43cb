//! Processes whose interpreter is looked for before the first stack of theirs comes: what they open in their first moments is
//! told by its lines as well.

use std::time::{Duration, Instant};

/// Between two looks at first: interpreters begin within some ten milliseconds.
const SOON: Duration = Duration::from_millis(4);
/// So often,
const EARLY: u32 = 25;
/// and then.
const LATER: Duration = Duration::from_millis(50);
/// A process that shows none for so many looks has none, or begins too late to be waited for.
const LOOKS: u32 = 120;
/// Processes looked at at once; further ones are known by their first stacks.
const AT_ONCE: usize = 64;

/// Those of which none has been found yet.
#[derive(Debug, Default)]
pub(super) struct Seeking(Vec<Sought>);

#[derive(Debug)]
struct Sought {
    tgid: u32,
    looks: u32,
    due: Instant,
}

impl Seeking {
    /// One more. One that is looked for already begins again: it executes another program.
    pub(super) fn add(&mut self, tgid: u32, now: Instant) {
        self.0.retain(|sought| sought.tgid != tgid);
        if self.0.len() < AT_ONCE {
            self.0.push(Sought {
                tgid,
                looks: 0,
                due: now,
            });
        }
    }

    /// How long until one is due; `None`: none is sought.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let due = self.0.iter().map(|sought| sought.due).min()?;
        Some(due.saturating_duration_since(now))
    }

    /// Those that are due. Whoever finds one says so, or is asked to look again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        self.0.retain_mut(|sought| {
            if sought.due > now {
                return true;
            }
            due.push(sought.tgid);
            sought.looks += 1;
            let pause = if sought.looks < EARLY { SOON } else { LATER };
            sought.due = now + pause;
            sought.looks < LOOKS
        });
        due
    }

    /// Not looked for any longer.
    pub(super) fn remove(&mut self, tgid: u32) {
        self.0.retain(|sought| sought.tgid != tgid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_for_a_while() {
        let (mut seeking, start) = (Seeking::default(), Instant::now());
        assert_eq!(seeking.wait(start), None);
        seeking.add(7, start);
        assert_eq!(seeking.wait(start), Some(Duration::ZERO));
        assert_eq!(seeking.due(start), [7]);
        assert!(seeking.due(start).is_empty());
        assert_eq!(seeking.wait(start), Some(SOON));
        let (mut now, mut looks) = (start, 1);
        while let Some(wait) = seeking.wait(now) {
            now += wait;
            looks += seeking.due(now).len();
        }
        assert_eq!(looks, LOOKS as usize);
        assert!(now - start < Duration::from_secs(6), "{:?}", now - start);
    }

    #[test]
    fn there_is_a_bound_and_nobody_is_there_twice() {
        let (mut seeking, start) = (Seeking::default(), Instant::now());
        for tgid in (0..100).chain(0..100) {
            seeking.add(tgid, start);
        }
        assert_eq!(seeking.due(start).len(), AT_ONCE);
        seeking.remove(5);
        let later = start + SOON;
        assert!(!seeking.due(later).contains(&5));
    }
}
