//! Storms: a process at its limit fails millions of times a second.
//!
//! The kernel counts every failure per kind and CPU, and sends a full record once per tick and CPU.
//! Here that becomes one report at once and then at most one a second, each saying how many others
//! it stands for. The counts in the records are totals, so that nothing depends on every record
//! arriving: reports and what they say they held back always add up to what the kernel counted.

use std::collections::HashMap;

use fdtrace_common::alarm::StormKey;

use crate::{stream::decode::Alarm, timers::Timer};

/// Between two reports of one storm, nanoseconds.
pub const PACE_NS: u64 = 1_000_000_000;
/// A storm without a record for this long has nothing left to tell.
const QUIET_NS: u64 = 5 * PACE_NS;
/// A storm without a record for this long may be forgotten.
const STALE: Timer = Timer::seconds(60);

/// A failure to report, and how many more of its kind it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The failure.
    pub alarm: Alarm,
    /// Further failures since the last report of this kind.
    pub repeats: u64,
}

/// One kind of failure.
struct Storm {
    /// The last record.
    latest: Alarm,
    /// What each CPU has counted.
    counted: HashMap<u32, u64>,
    /// How many of these are in reports already.
    told: u64,
    /// When the last report was made.
    told_ns: u64,
}

impl Storm {
    fn untold(&self) -> u64 {
        let counted: u64 = self.counted.values().sum();
        counted.saturating_sub(self.told)
    }

    fn report(&mut self, now_ns: u64) -> Option<Report> {
        let untold = self.untold();
        let repeats = untold.checked_sub(1)?;
        self.told += untold;
        self.told_ns = now_ns;
        Some(Report {
            alarm: self.latest.clone(),
            repeats,
        })
    }
}

/// All storms.
#[derive(Default)]
pub struct Storms {
    storms: HashMap<StormKey, Storm>,
}

impl Storms {
    /// Takes a record; a report if the last one of its kind is a second old.
    pub fn apply(&mut self, alarm: Alarm) -> Option<Report> {
        let now_ns = alarm.time_ns;
        let (cpu, failures) = (alarm.cpu, alarm.failures);
        let storm = self.storms.entry(alarm.key).or_insert_with(|| Storm {
            latest: alarm.clone(),
            counted: HashMap::new(),
            told: 0,
            told_ns: 0,
        });
        storm.latest = alarm;
        count(&mut storm.counted, cpu, failures);
        let is_due = storm.told == 0 || now_ns >= storm.told_ns.saturating_add(PACE_NS);
        if is_due { storm.report(now_ns) } else { None }
    }

    /// Takes what the kernel's map says each CPU has counted.
    pub fn observe(&mut self, key: &StormKey, counted: impl IntoIterator<Item = (u32, u64)>) {
        if let Some(storm) = self.storms.get_mut(key) {
            for (cpu, failures) in counted {
                count(&mut storm.counted, cpu, failures);
            }
        }
    }

    /// Has a process had a failure lately?
    #[must_use]
    pub fn has(&self, tgid: u32) -> bool {
        self.storms.keys().any(|key| key.tgid == tgid)
    }

    /// The kinds whose counts may have grown since their last record.
    #[must_use]
    pub fn active(&self, now_ns: u64) -> Vec<StormKey> {
        self.keys(|storm| storm.latest.time_ns.saturating_add(QUIET_NS) > now_ns)
    }

    /// All kinds.
    #[must_use]
    pub fn all(&self) -> Vec<StormKey> {
        self.keys(|_| true)
    }

    /// The kinds that nothing has been heard of for a minute.
    #[must_use]
    pub fn stale(&self, now_ns: u64) -> Vec<StormKey> {
        self.keys(|storm| storm.latest.time_ns.saturating_add(STALE.ns()) < now_ns)
    }

    fn keys(&self, wanted: impl Fn(&Storm) -> bool) -> Vec<StormKey> {
        let wanted = self.storms.iter().filter(|(_, storm)| wanted(storm));
        wanted.map(|(key, _)| *key).collect()
    }

    /// What has been held back for a second or longer.
    #[must_use]
    pub fn due(&mut self, now_ns: u64) -> Vec<Report> {
        self.reports(now_ns, |storm| {
            now_ns >= storm.told_ns.saturating_add(PACE_NS)
        })
    }

    /// Everything that has been held back: the stream ends.
    #[must_use]
    pub fn rest(&mut self, now_ns: u64) -> Vec<Report> {
        self.reports(now_ns, |_| true)
    }

    fn reports(&mut self, now_ns: u64, wanted: impl Fn(&Storm) -> bool) -> Vec<Report> {
        let wanted = self.storms.values_mut().filter(|storm| wanted(storm));
        let mut reports: Vec<_> = wanted.filter_map(|storm| storm.report(now_ns)).collect();
        reports.sort_by_key(|report| report.alarm.time_ns);
        reports
    }

    /// Drops a kind: its process has ended. What is still held back of it is reported.
    #[must_use]
    pub fn forget(&mut self, key: &StormKey, now_ns: u64) -> Option<Report> {
        self.storms.remove(key)?.report(now_ns)
    }
}

/// Records and the map may arrive in either order; totals only grow.
fn count(counted: &mut HashMap<u32, u64>, cpu: u32, failures: u64) {
    let known = counted.entry(cpu).or_default();
    *known = failures.max(*known);
}

#[cfg(test)]
mod tests;
