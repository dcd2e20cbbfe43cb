//! The diagnosis of each storm, and whether it is worth telling again.

use std::collections::HashMap;

use fdtrace_common::alarm::StormKey;

use crate::{
    diagnose::{
        diagnosis::{Diagnosis, Patient},
        verdict,
    },
    model::Model,
    timers::Timer,
};

/// People are told the same again after this time.
const AGAIN: Timer = Timer::seconds(60);

/// What was told of each storm. As many as there are storms.
#[derive(Default)]
pub(super) struct Diagnoses {
    latest: HashMap<StormKey, Told>,
}

struct Told {
    diagnosis: Diagnosis,
    told_ns: u64,
}

impl Diagnoses {
    /// The diagnosis now, and whether it is news. Of a process that has ended meanwhile it is the last one
    /// that could be made.
    pub(super) fn of(
        &mut self,
        key: StormKey,
        patient: Patient,
        model: &Model,
        now_ns: u64,
    ) -> (Option<Diagnosis>, bool) {
        let before = self.latest.get(&key);
        let Some(diagnosis) = Diagnosis::of(patient, model, now_ns) else {
            return (before.map(|told| told.diagnosis.clone()), false);
        };
        let is_news = before.is_none_or(|told| {
            verdict_of(&told.diagnosis) != verdict_of(&diagnosis)
                || now_ns >= told.told_ns.saturating_add(AGAIN.ns())
        });
        let told_ns = match before {
            Some(told) if !is_news => told.told_ns,
            _ => now_ns,
        };
        let told = Told {
            diagnosis: diagnosis.clone(),
            told_ns,
        };
        self.latest.insert(key, told);
        (Some(diagnosis), is_news)
    }

    /// Its process has ended.
    pub(super) fn forget(&mut self, key: &StormKey) {
        self.latest.remove(key);
    }
}

fn verdict_of(diagnosis: &Diagnosis) -> Option<verdict::Kind> {
    diagnosis.verdict.as_ref().map(|verdict| verdict.kind)
}
