//! What was not seen, by the place where it was lost.

use std::time::Instant;

use crate::{
    probe::{attach::Session, misses::Misses},
    report::fact::Place,
    timers::Timer,
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
    stacks: u64,
}

/// Stacks that were not taken are told of at once, and then at most this often: under load they are many,
/// and those that were taken say what the others would have.
const STACKS_TOLD: Timer = Timer::seconds(60);

/// What the counters have said last.
pub(super) struct Losses {
    misses: Misses,
    counted: Counts,
    /// Stacks taken in the kernel and dropped here, as far as they have been counted.
    dropped_stacks: u64,
    untold_stacks: u64,
    stacks_told: Option<Instant>,
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
    /// Stacks that the kernel did not take: there were too many.
    pub(super) stacks: u64,
}

impl Losses {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            misses: Misses::of(&session.ebpf),
            counted: Counts::default(),
            dropped_stacks: 0,
            untold_stacks: 0,
            stacks_told: None,
            total: 0,
        }
    }

    fn read(&self, session: &Session, model: u64) -> Counts {
        let [ring, storms, follow, pending, shed, stacks, _] = session.shared.counters();
        let skipped = self.misses.count();
        Counts {
            ring,
            storms,
            follow,
            skipped: skipped.of_tables + pending,
            others_skipped: skipped.others,
            model,
            shed,
            stacks,
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
            stacks: now.stacks.saturating_sub(before.stacks),
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
            stacks: new.stacks,
        }
    }

    /// Stacks to be told of now, if any: `new` ones were not taken in the kernel, and so many were dropped
    /// here since the start. They are no part of the total: nothing else is missing for want of them.
    pub(super) fn stacks(&mut self, new: u64, dropped: u64) -> Option<u64> {
        self.untold_stacks += new + dropped.saturating_sub(self.dropped_stacks);
        self.dropped_stacks = dropped;
        let is_due = self
            .stacks_told
            .is_none_or(|told| told.elapsed() >= STACKS_TOLD.duration());
        if self.untold_stacks == 0 || !is_due {
            return None;
        }
        self.stacks_told = Some(Instant::now());
        Some(std::mem::take(&mut self.untold_stacks))
    }

    /// What has come in the model's way until now has been found by passes; the same with skipped calls.
    pub(super) fn forgive_tables(&mut self, session: &Session, model: u64) {
        let now = self.read(session, model);
        (self.counted.skipped, self.counted.model) = (now.skipped, now.model);
    }
}
