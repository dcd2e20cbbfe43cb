//! When blocks are due. Pure.

use std::time::Duration;

/// Whoever asks does so once a second, a little earlier or later: what is due by then is due now, and not a second
/// later.
const JITTER: Duration = Duration::from_millis(250);

/// Blocks at an interval, which is kept on the average.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// When the next block is due, since boot; `None`: before the beginning.
    next: Option<Duration>,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: None,
        }
    }

    /// Begins now, nanoseconds since boot, unless it has begun.
    pub(super) fn begin(&mut self, now_ns: u64) {
        let next = Duration::from_nanos(now_ns).saturating_add(self.interval);
        self.next.get_or_insert(next);
    }

    /// Is a block due now, nanoseconds since boot? Then the next one is an interval after this one was due, or, where
    /// so much time has been lost, an interval from now.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        let now = Duration::from_nanos(now_ns);
        let Some(due) = self.next.filter(|due| *due <= now.saturating_add(JITTER)) else {
            return false;
        };
        let next = due.saturating_add(self.interval);
        self.next = Some(if next > now {
            next
        } else {
            now.saturating_add(self.interval)
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When blocks come, of ticks at these milliseconds.
    fn blocks(interval_ms: u64, ticks_ms: &[u64]) -> Vec<u64> {
        let mut schedule = Schedule::new(Duration::from_millis(interval_ms));
        assert!(
            !schedule.is_due(u64::MAX),
            "nothing is due before the beginning"
        );
        schedule.begin(0);
        let ticks = ticks_ms.iter().copied();
        ticks
            .filter(|tick_ms| schedule.is_due(tick_ms * 1_000_000))
            .collect()
    }

    #[test]
    fn a_tick_that_is_early_does_not_cost_a_second() {
        let ticks = [1_002, 1_999, 3_001, 3_998, 5_000, 5_997, 7_003];
        assert_eq!(blocks(2_000, &ticks), [1_999, 3_998, 5_997]);
    }

    #[test]
    fn delays_do_not_add_up_and_lost_time_is_not_made_up_for() {
        let ticks = [2_240, 4_240, 6_240, 8_000];
        assert_eq!(blocks(2_000, &ticks), ticks);
        let ticks = [1_000, 9_000, 10_000, 11_000, 12_000, 13_000];
        assert_eq!(blocks(2_000, &ticks), [9_000, 11_000, 13_000]);
    }

    #[test]
    fn an_interval_below_a_second_is_every_tick() {
        let ticks = [1_000, 2_000, 3_000];
        assert_eq!(blocks(100, &ticks), ticks);
    }
}
