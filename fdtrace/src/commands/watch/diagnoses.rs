//! What is said of each storm's failures, and whether it is worth telling again.

use std::collections::HashMap;

use fdtrace_common::alarm::StormKey;

use crate::{
    diagnose::{
        cause::{self, Cause},
        diagnosis::{Diagnosis, Patient},
        ends::Ends,
        verdict,
    },
    engine::{Engine, storms::Report},
    enrich::select::AskedSelect,
    ground::host::Host,
    report::{failing::FailedIn, openers::Openers},
    stream::decode::Alarm,
    timers::Timer,
};

/// People are told the same again after this time.
const AGAIN: Timer = Timer::seconds(60);

/// What there is to know of a failure when its record arrives: the table holds what it held then, and the process
/// is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) cause: Cause,
    pub(super) diagnosis: Option<Diagnosis>,
    /// Who has opened what the diagnosis lists.
    pub(super) openers: Openers,
    /// The stack of the call that has failed.
    pub(super) failed_in: FailedIn,
    /// Who has the other ends of what fills the table.
    pub(super) ends: Ends,
    /// Whether the process uses select(2).
    pub(super) select: AskedSelect,
}

impl Finding {
    /// `host` is asked where the record alone does not tell the cause.
    pub(super) fn of(alarm: &Alarm, engine: &dyn Engine, host: impl FnOnce() -> Host) -> Self {
        let cause = cause::cause(alarm, host);
        let patient = Patient::of(alarm, Some(cause));
        Self {
            cause,
            diagnosis: Diagnosis::of(patient, engine, alarm.time_ns),
            openers: Openers::default(),
            failed_in: FailedIn::default(),
            ends: Ends::default(),
            select: AskedSelect::default(),
        }
    }

    /// That of a later failure, after `before` was told of the same exhaustion: see [`Diagnosis::after`].
    fn after(self, before: &Self) -> Self {
        let (later, earlier) = match (self.diagnosis, &before.diagnosis) {
            (Some(later), Some(earlier)) => (later, earlier),
            (None, Some(_)) => {
                return Self {
                    cause: self.cause,
                    failed_in: self.failed_in.or(&before.failed_in),
                    select: self.select,
                    ..before.clone()
                };
            }
            (diagnosis, None) => {
                return Self {
                    diagnosis,
                    failed_in: self.failed_in.or(&before.failed_in),
                    ..self
                };
            }
        };
        let diagnosis = later.after(earlier);
        let openers = if diagnosis.holders == earlier.holders {
            before.openers.clone()
        } else {
            self.openers
        };
        Self {
            cause: self.cause,
            diagnosis: Some(diagnosis),
            openers,
            failed_in: self.failed_in.or(&before.failed_in),
            ends: self.ends.or(&before.ends),
            select: self.select,
        }
    }

    fn verdict(&self) -> Option<verdict::Kind> {
        let verdict = self.diagnosis.as_ref()?.verdict.as_ref();
        verdict.map(|verdict| verdict.kind)
    }
}

/// What was told of each storm. As many as there are storms.
#[derive(Default)]
pub(super) struct Diagnoses {
    latest: HashMap<StormKey, Told>,
}

struct Told {
    finding: Finding,
    /// When that was news.
    told_ns: u64,
}

impl Diagnoses {
    /// What to say with a report, and whether it is news. An exhaustion that begins has a diagnosis of its own;
    /// later reports of it take from theirs what they know more.
    pub(super) fn of(&mut self, report: &Report<Finding>) -> (Finding, bool) {
        let (key, now_ns) = (report.alarm.key, report.time_ns);
        let before = self.latest.get(&key).filter(|_| !report.is_first);
        let finding = match before {
            Some(told) => report.made.clone().after(&told.finding),
            None => report.made.clone(),
        };
        let is_news = before.is_none_or(|told| {
            told.finding.verdict() != finding.verdict()
                || now_ns >= told.told_ns.saturating_add(AGAIN.ns())
        });
        let told_ns = match before {
            Some(told) if !is_news => told.told_ns,
            _ => now_ns,
        };
        let told = Told {
            finding: finding.clone(),
            told_ns,
        };
        self.latest.insert(key, told);
        (finding, is_news)
    }

    /// Its process has ended.
    pub(super) fn forget(&mut self, key: &StormKey) {
        self.latest.remove(key);
    }
}

#[cfg(test)]
mod tests;
