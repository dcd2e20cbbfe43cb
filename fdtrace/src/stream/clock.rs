//! The kernel stamps records with time since boot; people want the time of day.

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since boot, suspend included, now.
#[must_use]
pub fn since_boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// The time of day of a moment `since_boot_ns` after boot, by the clock as it is set now.
#[must_use]
pub fn time_of_day(moment_ns: u64) -> Timestamp {
    let now = Timestamp::now();
    let age = i64::try_from(since_boot_ns().saturating_sub(moment_ns)).unwrap_or(i64::MAX);
    now.checked_sub(jiff::SignedDuration::from_nanos(age))
        .unwrap_or(now)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
