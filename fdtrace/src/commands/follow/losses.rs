//! What was not seen, by the place where it was lost.

use crate::{
    probe::{attach::Session, misses::Misses},
    report::fact::Place,
};

/// Where something can be lost on the way from the kernel into the model.
const PLACES: [Place; 6] = [
    Place::Ring,
    Place::Storms,
    Place::Follow,
    Place::Skipped,
    Place::Model,
    Place::Shed,
];

/// Something was lost since it was last asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Lost {
    pub(in crate::commands) place: Place,
    pub(in crate::commands) count: u64,
    /// Slots put right since the start.
    pub(in crate::commands) repaired: u64,
}

/// Counters that only ever rise.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ring: u64,
    storms: u64,
    follow: u64,
    /// Calls that no program was entered for: those that change tables, and others.
    skipped: u64,
    others_skipped: u64,
    model: u64,
    shed: u64,
}

/// What the counters have said last.
pub(super) struct Losses {
    misses: Misses,
    counted: Counts,
    /// All places together.
    pub(super) total: u64,
}

/// What a look at the counters has found.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    pub(super) lost: Vec<(Place, u64)>,
    /// Tables may be wrong now.
    pub(super) is_suspect: bool,
    pub(super) ring: u64,
    pub(super) shed: u64,
}

impl Losses {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            misses: Misses::of(&session.ebpf),
            counted: Counts::default(),
            total: 0,
        }
    }

    fn read(&self, session: &Session, model: u64) -> Counts {
        let [ring, storms, follow, pending, shed] = session.shared.counters();
        let skipped = self.misses.count();
        Counts {
            ring,
            storms,
            follow,
            skipped: skipped.of_tables + pending,
            others_skipped: skipped.others,
            model,
            shed,
        }
    }

    /// Looks for new ones; `model` is the count of records that did not fit.
    pub(super) fn look(&mut self, session: &Session, model: u64) -> News {
        let now = self.read(session, model);
        let before = std::mem::replace(&mut self.counted, now);
        let new = Counts {
            ring: now.ring.saturating_sub(before.ring),
            storms: now.storms.saturating_sub(before.storms),
            follow: now.follow.saturating_sub(before.follow),
            skipped: now.skipped.saturating_sub(before.skipped),
            others_skipped: now.others_skipped.saturating_sub(before.others_skipped),
            model: now.model.saturating_sub(before.model),
            shed: now.shed.saturating_sub(before.shed),
        };
        let counts = [
            new.ring,
            new.storms,
            new.follow,
            new.skipped + new.others_skipped,
            new.model,
            new.shed,
        ];
        let lost = PLACES.into_iter().zip(counts);
        let lost: Vec<_> = lost.filter(|(_, count)| *count > 0).collect();
        self.total += counts.iter().sum::<u64>();
        News {
            lost,
            is_suspect: new.ring + new.skipped + new.model > 0,
            ring: new.ring,
            shed: new.shed,
        }
    }

    /// What has come in the model's way until now has been found by passes; the same with skipped calls.
    pub(super) fn forgive_tables(&mut self, session: &Session, model: u64) {
        let now = self.read(session, model);
        (self.counted.skipped, self.counted.model) = (now.skipped, now.model);
    }
}
