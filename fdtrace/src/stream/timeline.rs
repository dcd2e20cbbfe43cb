//! The times of a stream's lines, which never go back.
//!
//! Facts come from several sources: records carry the time of what they tell, polls and counts the time
//! at which they were made. A record that is read after a poll may be older than it, by as long as it has waited
//! in the ring; and two readings of where the clocks stand to each other differ by microseconds.

use jiff::Timestamp;

use super::clock::{Clock, was_set};

/// Gives each line its time: that of its fact, or of the line above where that is later. Where somebody
/// sets the machine's clock back, so do the times.
#[derive(Debug, Default)]
pub struct Timeline {
    latest_ns: u64,
    boot: Option<Timestamp>,
}

impl Timeline {
    /// The time of a line about a moment, nanoseconds since boot.
    pub fn at(&mut self, clock: Clock, moment_ns: u64) -> Timestamp {
        self.latest_ns = self.latest_ns.max(moment_ns);
        self.time_of(clock, self.latest_ns)
    }

    /// The time of a line about now.
    pub fn now(&mut self, clock: Clock) -> Timestamp {
        self.at(clock, clock.now_ns())
    }

    /// The time of day of a moment, by the same reading of the clocks as the lines' times.
    pub fn time_of(&mut self, clock: Clock, moment_ns: u64) -> Timestamp {
        let boot = clock.boot();
        let steady = match self.boot {
            Some(before) if !was_set(before, boot) => before,
            _ => boot,
        };
        self.boot = Some(steady);
        Clock::Recorded {
            boot: steady,
            now_ns: moment_ns,
        }
        .now()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn clock(boot: &str) -> Clock {
        Clock::Recorded {
            boot: boot.parse().unwrap(),
            now_ns: 0,
        }
    }

    #[test]
    fn an_older_moment_gets_the_time_of_the_line_above() {
        let mut line = Timeline::default();
        let clock = clock("2026-11-01T10:00:00Z");
        let times = [7, 5, 7, 8].map(|second| line.at(clock, second * 1_000_000_000));
        let seconds = times.map(|time| time.to_string());
        assert_eq!(
            seconds,
            [
                "2026-11-01T10:00:07Z",
                "2026-11-01T10:00:07Z",
                "2026-11-01T10:00:07Z",
                "2026-11-01T10:00:08Z"
            ]
        );
        // What a line says of the failure itself is exact.
        let exact = line.time_of(clock, 5_000_000_000);
        assert_eq!(exact.to_string(), "2026-11-01T10:00:05Z");
    }

    #[test]
    fn two_readings_of_the_clocks_do_not_reorder_lines() {
        let mut line = Timeline::default();
        let later = line.at(clock("2026-11-01T10:00:00.000009Z"), 1_000);
        let earlier = line.at(clock("2026-11-01T10:00:00Z"), 2_000);
        assert!(later < earlier, "{later} {earlier}");
    }

    #[test]
    fn times_follow_a_clock_that_is_set() {
        let mut line = Timeline::default();
        let before = line.at(clock("2026-11-01T10:00:00Z"), 1_000);
        let after = line.at(clock("2026-11-01T09:00:00Z"), 2_000);
        assert!(before.duration_since(after) > SignedDuration::from_mins(59));
    }
}
