//! Who fills a table and why, at one moment. Pure.

use super::{
    cause::Cause,
    holders::{Holder, holders},
    verdict::{Evidence, Verdict},
};
use crate::model::{Model, tables::slot::Slot};

/// What is known of a table when it has run out, or nearly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// The moment, nanoseconds since boot.
    pub now_ns: u64,
    /// Since when the table has been followed, nanoseconds since boot.
    pub since_ns: u64,
    /// What fills it, most first.
    pub holders: Vec<Holder>,
    /// By how much the table grows steadily, fds a minute; `None` where it does not.
    pub growth_per_min: Option<f64>,
    /// Leak or load; `None` where the table is not what has run out.
    pub verdict: Option<Verdict>,
}

/// Whose table, and what has happened to it.
#[derive(Clone, Copy, Debug)]
pub struct Patient {
    /// The table.
    pub files: u64,
    /// A thread that uses it.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Its process's soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Which limit was hit, if one was.
    pub cause: Option<Cause>,
    /// Numbers taken, as the kernel counts them.
    pub used: Option<u32>,
}

impl Patient {
    /// Is it the table that has run out, or will?
    fn is_about_table(&self) -> bool {
        match self.cause {
            None => true,
            // dup2 to a number out of reach fails in an empty table as well. One number left is too few for a
            // pipe, and where only the end of a call is seen, it has been given back.
            Some(Cause::RlimitNofile | Cause::NrOpen) => self
                .used
                .is_none_or(|used| u64::from(used).saturating_add(1) >= self.soft),
            Some(_) => false,
        }
    }
}

impl Diagnosis {
    /// The diagnosis; `None` where the table is not known, or is another process's by now. What the kernel
    /// has told of it on the spot goes before what was followed.
    #[must_use]
    pub fn of(patient: Patient, model: &Model, now_ns: u64) -> Option<Self> {
        let user = model.tables.thread(patient.tid);
        let is_user =
            user.is_some_and(|user| (user.files, user.tgid) == (patient.files, patient.tgid));
        let known = model.tables.table(patient.files).filter(|_| is_user);
        let held = model.held.of(patient.files, patient.tid);
        let told = held.and_then(|held| held.applied_to(known, model.tables.looked_ns()));
        let table = told.as_ref().or(known)?;
        let ends = match held {
            Some(held) => held.ends(table),
            None => model.sockets.ends(table.slots()),
        };
        let trend = model.trends.of(patient.files, table.generation);
        let first = trend.and_then(|trend| trend.stretches().first());
        let since_ns = match table.made_ns {
            0 => first.map_or(now_ns, |first| first.from_ns),
            made_ns => made_ns,
        };
        let opener_of = |fd: u32, slot: &Slot| model.openers.get(patient.files, fd, slot.file);
        let holders = holders(table, model.tables.names(), &ends, &opener_of);
        let evidence = Evidence {
            is_exhausted: patient.cause.is_some(),
            ..Evidence::of(table, trend, Some(patient.soft), holders.first(), now_ns)
        };
        let verdict = patient.is_about_table().then(|| Verdict::of(&evidence));
        Some(Self {
            now_ns,
            since_ns,
            holders,
            growth_per_min: evidence.growth_per_min(),
            verdict,
        })
    }

    /// Time until so many are open that are not yet, at this growth; seconds.
    #[must_use]
    pub fn seconds_until(&self, used: u64, limit: u64) -> Option<f64> {
        let left = u32::try_from(limit.saturating_sub(used)).ok()?;
        let growth = self.growth_per_min.filter(|growth| *growth > 0.0)?;
        Some(f64::from(left) * 60.0 / growth)
    }
}

#[cfg(test)]
mod tests;
