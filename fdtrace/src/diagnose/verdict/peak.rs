//! A short peak after a long time with much less.

use super::evidence::seconds_between;
use crate::engine::table::{Stretch, Table};

/// More than twice as many open as most of the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peak {
    /// The number that was not passed most of the time.
    pub usual: u32,
    /// How long ago that ended.
    pub seconds: f64,
    /// Opened since.
    pub opened: u64,
    /// Closed since.
    pub closed: u64,
    /// An earlier peak that went down again.
    pub earlier: Option<u32>,
    /// How far it went down.
    pub valley: u32,
}

impl Peak {
    /// A peak is one that has come after a long time with less than half of it, and of which fds are
    /// closed again, now or last time.
    pub(super) fn of(stretches: &[Stretch], table: &Table, now_ns: u64) -> Option<Self> {
        let open = table.open();
        let is_low = |part: &&Stretch| part.high.saturating_mul(2) < open;
        let (index, last_low) = stretches
            .iter()
            .enumerate()
            .rfind(|(_, part)| is_low(part))?;
        let low = stretches.iter().filter(is_low);
        let low_ns: u64 = low
            .map(|part| part.until_ns - part.from_ns.min(part.until_ns))
            .sum();
        let seconds = seconds_between(last_low.until_ns, now_ns);
        let is_usual = low_ns / 2 > now_ns.saturating_sub(last_low.until_ns);
        let opened = table.gained.saturating_sub(last_low.opened);
        let closed = table.closed().saturating_sub(last_low.closed);
        let before = &stretches[..index];
        let earlier = before.iter().map(|part| part.high).max();
        let earlier = earlier.filter(|earlier| earlier.saturating_mul(2) >= open);
        let is_closing = closed >= 8 && closed.saturating_mul(10) >= opened;
        (is_usual && (earlier.is_some() || is_closing)).then_some(Self {
            usual: last_low.high,
            seconds,
            opened,
            closed,
            earlier,
            valley: last_low.low,
        })
    }
}
