//! The long times of a running stream: when something is forgotten, reported again or looked at again.
//!
//! A test cannot wait for minutes. It makes all of them shorter by one factor, here, and has seen in seconds what
//! takes an hour otherwise. What is shorter than a few seconds stays as it is.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

static FACTOR: AtomicU32 = AtomicU32::new(1);

/// Makes all of them so many times shorter from here on.
pub fn shorten(factor: u32) {
    FACTOR.store(factor.max(1), Ordering::Relaxed);
}

/// A long time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(Duration);

impl Timer {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// How long it is.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.shorter(FACTOR.load(Ordering::Relaxed))
    }

    /// The same in nanoseconds.
    #[must_use]
    pub fn ns(self) -> u64 {
        u64::try_from(self.duration().as_nanos()).unwrap_or(u64::MAX)
    }

    fn shorter(self, factor: u32) -> Duration {
        self.0.checked_div(factor).unwrap_or(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The factor is everybody's: no test sets it.
    #[test]
    fn a_timer_is_as_long_as_it_says_or_shorter_by_the_factor() {
        let timer = Timer::seconds(60);
        assert_eq!(timer.ns(), 60_000_000_000);
        assert_eq!(timer.shorter(30), Duration::from_secs(2));
        assert_eq!(timer.shorter(0), Duration::from_mins(1));
    }
}
