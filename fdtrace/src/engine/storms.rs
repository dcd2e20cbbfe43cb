//! Storms: a process at its limit fails millions of times a second.
//!
//! The kernel counts every failure per kind and CPU, and sends a full record once per tick and CPU.
//! Here that becomes one report at once and then at most one a second, each saying how many others
//! it stands for. The counts in the records are totals, so that nothing depends on every record
//! arriving: reports and what they say they held back always add up to what the kernel counted.
//!
//! A report shows one failure as it was: what there is to know about that failure is made when its record
//! arrives, and kept until the report is due. A second later the table may be empty and the process gone.

use std::collections::HashMap;

use fdtrace_common::alarm::StormKey;

use crate::{stream::decode::Alarm, timers::Timer};

/// Between two reports of one storm, nanoseconds.
pub const PACE_NS: u64 = 1_000_000_000;
/// A storm without a record for this long is over: it has nothing left to tell, and the next failure begins
/// another one.
const QUIET_NS: u64 = 5 * PACE_NS;
/// A storm without a record for this long may be forgotten.
const STALE: Timer = Timer::seconds(60);

/// A failure to report, and how many more of its kind it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<T> {
    /// The failure that it shows: the last one that a report was made of at once, or the first one held back
    /// since.
    pub alarm: Alarm,
    /// What was made of it when its record arrived.
    pub made: T,
    /// Further failures since the last report of this kind.
    pub repeats: u64,
    /// When it is made, nanoseconds since boot: the failure's own time where it is reported at once, else the
    /// time up to which failures are counted.
    pub time_ns: u64,
    /// There was no record of its kind in the five seconds before, or none at all.
    pub is_first: bool,
}

/// One kind of failure.
struct Storm<T> {
    /// When the last record was written.
    heard_ns: u64,
    /// The failure that the last report has shown.
    shown: Option<(Alarm, T)>,
    /// The first failure since, which the next report shows.
    pending: Option<(Alarm, T)>,
    /// What each CPU has counted.
    counted: HashMap<u32, u64>,
    /// How many of these are in reports already.
    told: u64,
    /// When the last report was made.
    told_ns: u64,
    /// The next report is the first one after a quiet time.
    is_first: bool,
}

impl<T> Default for Storm<T> {
    fn default() -> Self {
        Self {
            heard_ns: 0,
            shown: None,
            pending: None,
            counted: HashMap::new(),
            told: 0,
            told_ns: 0,
            is_first: true,
        }
    }
}

impl<T: Clone> Storm<T> {
    fn untold(&self) -> u64 {
        let counted: u64 = self.counted.values().sum();
        counted.saturating_sub(self.told)
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.told == 0 || now_ns >= self.told_ns.saturating_add(PACE_NS)
    }

    fn report(&mut self, now_ns: u64) -> Option<Report<T>> {
        let untold = self.untold();
        let repeats = untold.checked_sub(1)?;
        self.shown = self.pending.take().or_else(|| self.shown.take());
        let (alarm, made) = self.shown.clone()?;
        self.told += untold;
        self.told_ns = now_ns;
        Some(Report {
            alarm,
            made,
            repeats,
            time_ns: now_ns,
            is_first: std::mem::take(&mut self.is_first),
        })
    }
}

/// All storms, with what is made of the failures that reports show: two of each storm at most are kept.
pub struct Storms<T> {
    storms: HashMap<StormKey, Storm<T>>,
}

impl<T> Default for Storms<T> {
    fn default() -> Self {
        Self {
            storms: HashMap::new(),
        }
    }
}

impl<T: Clone> Storms<T> {
    /// Takes a record; a report if the last one of its kind is a second old. `look` is called where this
    /// failure will be shown, now or in the next report: at most twice a second of each storm.
    pub fn apply(&mut self, alarm: Alarm, look: impl FnOnce(&Alarm) -> T) -> Option<Report<T>> {
        let now_ns = alarm.time_ns;
        let storm = self.storms.entry(alarm.key).or_default();
        storm.is_first |= now_ns >= storm.heard_ns.saturating_add(QUIET_NS);
        storm.heard_ns = storm.heard_ns.max(now_ns);
        count(&mut storm.counted, alarm.cpu, alarm.failures);
        let is_due = storm.is_due(now_ns);
        if storm.untold() > 0 && (is_due || storm.pending.is_none()) {
            let made = look(&alarm);
            storm.pending = Some((alarm, made));
        }
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
        self.keys(|storm| storm.heard_ns.saturating_add(QUIET_NS) > now_ns)
    }

    /// All kinds.
    #[must_use]
    pub fn all(&self) -> Vec<StormKey> {
        self.keys(|_| true)
    }

    /// The kinds that nothing has been heard of for a minute.
    #[must_use]
    pub fn stale(&self, now_ns: u64) -> Vec<StormKey> {
        self.keys(|storm| storm.heard_ns.saturating_add(STALE.ns()) < now_ns)
    }

    fn keys(&self, wanted: impl Fn(&Storm<T>) -> bool) -> Vec<StormKey> {
        let wanted = self.storms.iter().filter(|(_, storm)| wanted(storm));
        wanted.map(|(key, _)| *key).collect()
    }

    /// What has been held back for a second or longer, in the order of the failures shown.
    #[must_use]
    pub fn due(&mut self, now_ns: u64) -> Vec<Report<T>> {
        self.reports(now_ns, |storm| storm.is_due(now_ns))
    }

    /// Everything that has been held back: the stream ends.
    #[must_use]
    pub fn rest(&mut self, now_ns: u64) -> Vec<Report<T>> {
        self.reports(now_ns, |_| true)
    }

    fn reports(&mut self, now_ns: u64, wanted: impl Fn(&Storm<T>) -> bool) -> Vec<Report<T>> {
        let wanted = self.storms.values_mut().filter(|storm| wanted(storm));
        let mut reports: Vec<_> = wanted.filter_map(|storm| storm.report(now_ns)).collect();
        reports.sort_by_key(|report| report.alarm.time_ns);
        reports
    }

    /// Drops a kind: its process has ended. What is still held back of it is reported.
    #[must_use]
    pub fn forget(&mut self, key: &StormKey, now_ns: u64) -> Option<Report<T>> {
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
