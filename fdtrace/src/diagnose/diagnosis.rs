//! Who fills a table and why, at one moment. Pure.

use std::cmp::Ordering;

use super::{
    cause::Cause,
    holders::{Holder, folders::Folders, holders},
    verdict::{self, Evidence, Subject, Verdict},
};
use crate::{
    engine::{
        Engine,
        table::{Sighting, Table},
    },
    ground::task::Task,
    stream::decode::Alarm,
};

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
    /// The holders are what the table held at that moment, as far as the kernel has counted its files.
    pub is_whole: bool,
}

/// Whose table, and what has happened to it.
#[derive(Clone, Copy, Debug)]
pub struct Patient {
    /// The table, and who uses it; files open in it at that very moment, where the kernel has counted them.
    pub seen: Sighting,
    /// Its process's soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Which limit was hit, if one was.
    pub cause: Option<Cause>,
    /// Numbers taken, as the kernel counts them.
    pub used: Option<u32>,
}

impl Patient {
    /// Whose table a call has found full, and which limit that was.
    #[must_use]
    pub fn of(alarm: &Alarm, cause: Option<Cause>) -> Self {
        Self {
            seen: Sighting {
                files: alarm.key.files,
                tid: alarm.tid,
                tgid: alarm.key.tgid,
                started_ns: alarm.key.started_ns,
                open: alarm.open.or(alarm.used),
            },
            soft: alarm.soft,
            cause,
            used: alarm.used,
        }
    }

    /// Whose table somebody has looked at.
    #[must_use]
    pub fn of_task(task: &Task) -> Self {
        Self {
            seen: Sighting {
                files: task.files,
                tid: task.tid,
                tgid: task.tgid,
                started_ns: 0,
                open: None,
            },
            soft: task.soft,
            cause: None,
            used: task.used,
        }
    }

    /// Is this the table that the kernel has counted? Other threads open and close meanwhile, and between two
    /// snapshots a table that fills up is a little behind.
    fn is_of(&self, table: &Table) -> bool {
        let slack = self.seen.open.map_or(0, |open| (open / 10).max(2));
        self.seen.distance(table.open()) <= slack
    }

    /// When its process started, nanoseconds since boot, if that was after the first look; else 0.
    fn started_of(self, engine: &dyn Engine) -> u64 {
        let first_looked_ns = engine.first_looked_ns();
        let user = engine.thread(self.seen.tid);
        let user = user.filter(|user| user.tgid == self.seen.tgid);
        let started_ns = user.map_or(0, |user| user.started_ns);
        let started_ns = started_ns.max(self.seen.started_ns);
        if first_looked_ns > 0 && started_ns > first_looked_ns {
            started_ns
        } else {
            0
        }
    }

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

/// When a table began, nanoseconds since boot, where that is no earlier than the first look; else 0. Where changes
/// are not followed, it begins with its process, unless it holds what is older: processes can share one.
fn begun_ns(table: &Table, started_ns: u64) -> u64 {
    if table.made_ns > 0 {
        return table.made_ns;
    }
    let is_older = table.entries.iter().any(|entry| entry.open.since_ns == 0);
    if is_older { 0 } else { started_ns }
}

impl Diagnosis {
    /// The diagnosis; `None` where the table is not known, or is another process's by now.
    #[must_use]
    pub fn of(patient: Patient, engine: &dyn Engine, now_ns: u64) -> Option<Self> {
        let table = &engine.table_at(&patient.seen)?;
        let begun_ns = begun_ns(table, patient.started_of(engine));
        let since_ns = match (begun_ns, table.followed_ns) {
            (0, 0) => table.past.first().map_or(now_ns, |first| first.from_ns),
            // What was there before has been there since the first look at least.
            (0, followed_ns) => followed_ns,
            (begun_ns, _) => begun_ns,
        };
        let holders = holders(table);
        let evidence = Evidence {
            is_exhausted: patient.cause.is_some(),
            ..Evidence::of(Subject {
                table,
                limit: Some(patient.soft),
                largest: holders.first(),
                begun_ns,
                now_ns,
            })
        };
        let is_whole = patient.is_of(table);
        let verdict = patient.is_about_table().then(|| {
            if is_whole {
                Verdict::of(&evidence)
            } else {
                of_another_moment(table.open(), patient.seen.open.unwrap_or_default())
            }
        });
        Some(Self {
            now_ns,
            since_ns,
            holders,
            growth_per_min: evidence.growth_per_min().filter(|_| is_whole),
            verdict,
            is_whole,
        })
    }

    /// The diagnosis of a later failure of the same exhaustion, after `before` was told: of what the table held,
    /// and why, each as the later one has it unless the earlier one knew more.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        if !self.is_whole && before.is_whole {
            return before.clone();
        }
        if self.knows_as_much_as(before) {
            return self;
        }
        Self {
            since_ns: self.since_ns.min(before.since_ns),
            growth_per_min: before.growth_per_min,
            verdict: before.verdict.clone(),
            ..self
        }
    }

    /// Is this verdict made of as much as that one? Of the table that ran out rather than another moment's; with
    /// an answer rather than without; and of the same two, of a table that was followed for longer.
    fn knows_as_much_as(&self, before: &Self) -> bool {
        let rank = |diagnosis: &Self| {
            let kind = diagnosis.verdict.as_ref().map(|verdict| verdict.kind);
            let answer = kind.map(|kind| kind != verdict::Kind::Unknown);
            (diagnosis.is_whole, answer)
        };
        let seen_ns = |diagnosis: &Self| diagnosis.now_ns.saturating_sub(diagnosis.since_ns);
        match rank(self).cmp(&rank(before)) {
            Ordering::Less => false,
            Ordering::Equal => seen_ns(self) >= seen_ns(before),
            Ordering::Greater => true,
        }
    }

    /// Is the largest group one of deleted files, once somebody has looked?
    #[must_use]
    pub fn are_deleted(&self) -> bool {
        let largest = self.holders.first();
        let folders = largest.and_then(|holder| holder.folders.as_ref());
        folders.is_some_and(Folders::are_deleted)
    }

    /// Fds of so many that are open which no holder stands for.
    #[must_use]
    pub fn unlisted(&self, open: u32) -> u32 {
        let listed: u32 = self.holders.iter().map(|holder| holder.count).sum();
        open.saturating_sub(listed)
    }

    /// Time until so many are open that are not yet, at this growth; seconds.
    #[must_use]
    pub fn seconds_until(&self, used: u64, limit: u64) -> Option<f64> {
        let left = u32::try_from(limit.saturating_sub(used)).ok()?;
        let growth = self.growth_per_min.filter(|growth| *growth > 0.0)?;
        Some(f64::from(left) * 60.0 / growth)
    }
}

/// The verdict on a table that is known as it was at another moment only.
fn of_another_moment(known: u32, open: u32) -> Verdict {
    Verdict {
        kind: verdict::Kind::Unknown,
        growth_per_min: None,
        evidence: vec![format!(
            "{open} fds were open when the call failed, but {known} in the last snapshot of the table"
        )],
    }
}

#[cfg(test)]
mod tests;
