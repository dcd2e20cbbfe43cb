//! The kernel stamps records with time since boot; people want the time of day.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A clock that differs by so much from what it was has been set.
const CLOCK_SET: SignedDuration = SignedDuration::from_millis(10);

/// The clock that a stream's facts are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// This machine's own, as it is set at the moment of asking.
    System,
    /// That of the machine and the time at which a recording was made.
    Recorded {
        /// When that machine was started, by its clock.
        boot: Timestamp,
        /// How far the recording has been read, nanoseconds since boot.
        now_ns: u64,
    },
}

impl Clock {
    /// Nanoseconds since boot, suspend included, now.
    #[must_use]
    pub fn now_ns(self) -> u64 {
        match self {
            Self::System => since_boot_ns(),
            Self::Recorded { now_ns, .. } => now_ns,
        }
    }

    /// The time of day, now.
    #[must_use]
    pub fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Recorded { boot, now_ns } => after(boot, now_ns),
        }
    }

    /// The time of day of a moment `moment_ns` after boot.
    #[must_use]
    pub fn at(self, moment_ns: u64) -> Timestamp {
        after(self.boot(), moment_ns)
    }

    /// When the machine was started, by its clock. Two readings of a clock that nobody has set differ by
    /// microseconds: see [`was_set`].
    #[must_use]
    pub fn boot(self) -> Timestamp {
        match self {
            Self::System => boot(),
            Self::Recorded { boot, .. } => boot,
        }
    }
}

/// Nanoseconds since boot, suspend included, now.
#[must_use]
pub fn since_boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// What the calling thread has had of the CPUs.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ThreadCPUTime)))
}

/// What this process has had of the CPUs.
#[must_use]
pub fn own_cpu_time() -> Duration {
    Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ProcessCPUTime)))
}

/// When this machine was started, by the clock as it is set now.
#[must_use]
pub fn boot() -> Timestamp {
    let now = Timestamp::now();
    let age = i64::try_from(since_boot_ns()).unwrap_or(i64::MAX);
    now.checked_sub(SignedDuration::from_nanos(age))
        .unwrap_or(now)
}

/// Has somebody set the clock between these two readings of [`boot`]?
#[must_use]
pub fn was_set(before: Timestamp, boot: Timestamp) -> bool {
    boot.duration_since(before).abs() > CLOCK_SET
}

fn after(boot: Timestamp, moment_ns: u64) -> Timestamp {
    let age = i64::try_from(moment_ns).unwrap_or(i64::MAX);
    boot.checked_add(SignedDuration::from_nanos(age))
        .unwrap_or(boot)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_a_clock_of_its_own() {
        let boot: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let clock = Clock::Recorded {
            boot,
            now_ns: 1_500_000_000,
        };
        assert_eq!(clock.now().to_string(), "2026-11-01T10:00:01.5Z");
        assert_eq!(clock.at(0), boot);
        // The end of all time is no reason to panic.
        assert_eq!(clock.at(u64::MAX).to_string()[..4], *"2319");
    }
}
