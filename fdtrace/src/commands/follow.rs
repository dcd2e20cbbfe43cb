//! Following every table for a while: what `audit` and `trace` have in common.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};

use super::say;
use crate::{
    model::tables::reconcile::{Difference, Outcome, Purpose},
    probe::{
        attach::{self, Session},
        backend::Backend,
        maps,
        misses::Misses,
    },
    report::fact::Place,
    stream::ring::Ring,
    tracker::{CONFIRM, Handler, LOOK, Tracker},
};

/// Losses are looked for this often; it is the kernel's clock for storms as well.
const SECOND: Duration = Duration::from_secs(1);
/// The model is compared with the kernel this often although nothing was lost.
const ROUTINE: Duration = Duration::from_mins(5);

/// Everything that following takes.
pub(super) struct Follow {
    pub(super) session: Session,
    pub(super) tracker: Tracker,
    ring: Ring,
    misses: Misses,
    interrupt: Signal,
    terminate: Signal,
    tick: u64,
    /// What the counters have said last, by [`PLACES`].
    counted: [u64; PLACES.len()],
    /// Records and calls that nobody has seen since the start was over.
    lost: u64,
    /// Records waited for a second ago.
    awaited: usize,
    next_pass: Option<Instant>,
    last_pass: Instant,
}

/// Where something can be lost on the way into the model.
pub(super) const PLACES: [Place; 3] = [Place::Ring, Place::Skipped, Place::Model];

/// Something was lost since it was last asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) place: Place,
    pub(super) count: u64,
    /// Slots put right in the meantime.
    pub(super) repaired: u64,
}

/// Why following has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The time is over, or somebody has pressed Ctrl-C.
    Wanted,
    /// The handler has had enough.
    Enough,
}

/// A handler that hears of losses as well.
pub(super) trait Listener: Handler {
    /// Something was lost.
    fn lost(&mut self, lost: Lost);

    /// Has it had enough?
    fn is_done(&self) -> bool {
        false
    }
}

/// Says on stderr which backends do not run, and what the one that does cannot see.
pub(super) fn say_what_runs(session: &Session) {
    for rejected in &session.rejected {
        say(&format!("not {}: {}", rejected.backend, rejected.reason));
    }
    for miss in &session.coverage.misses {
        say(&format!("not seen here: {miss}"));
    }
}

impl Follow {
    /// Within a runtime. The tables are not known yet.
    pub(super) fn new(session: Session, ring: RingBuf<MapData>) -> Result<Self> {
        Ok(Self {
            misses: Misses::of_tables(&session.ebpf),
            session,
            tracker: Tracker::default(),
            ring: Ring::new(ring)?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for signals")?,
            terminate: signal(SignalKind::terminate()).context("waiting for signals")?,
            tick: attach::FIRST_TICK,
            counted: [0; PLACES.len()],
            lost: 0,
            awaited: 0,
            next_pass: None,
            last_pass: Instant::now(),
        })
    }

    /// Records that nobody has seen, all places together.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes in the tables that there are, and what was under way when the hooks were armed: whoever had
    /// passed a hook by then shows in the passes that follow.
    pub(super) async fn learn(&mut self, handler: &mut impl Listener) -> Result<()> {
        const AT_LEAST: u32 = 2;
        const AT_MOST: u32 = 8;
        self.pass(Purpose::Baseline, handler)?;
        if self.session.backend == Backend::Census {
            return Ok(());
        }
        for looks in 1..=AT_MOST {
            self.wait(CONFIRM, handler).await;
            let outcome = self.pass(Purpose::Settle, handler)?;
            let is_settled = outcome.is_some_and(|outcome| outcome.suspects == 0);
            if is_settled && looks >= AT_LEAST {
                break;
            }
        }
        // Whatever was lost until here has been found by now.
        self.counted = self.counters()?;
        Ok(())
    }

    fn pass(&mut self, purpose: Purpose, handler: &mut impl Listener) -> Result<Option<Outcome>> {
        self.last_pass = Instant::now();
        self.tracker
            .pass(&mut self.session, &mut self.ring, purpose, handler)
    }

    /// Follows until `duration` is over, somebody presses Ctrl-C, or the handler is done.
    pub(super) async fn run(
        &mut self,
        duration: Option<Duration>,
        handler: &mut impl Listener,
    ) -> Result<End> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let deadline = sleep(duration.unwrap_or(Duration::MAX));
        tokio::pin!(deadline);
        while !handler.is_done() {
            let tracker = &mut self.tracker;
            tokio::select! {
                outcome = self.ring.wait(|record| tracker.take(record, handler)) => outcome?,
                _ = looks.tick() => self.ring.drain(|record| tracker.take(record, handler)),
                _ = seconds.tick() => self.on_second(handler)?,
                () = &mut deadline => return Ok(End::Wanted),
                _ = self.interrupt.recv() => return Ok(End::Wanted),
                _ = self.terminate.recv() => return Ok(End::Wanted),
            }
            if self.next_pass.is_some_and(|time| time <= Instant::now()) {
                self.heal(handler)?;
            }
        }
        Ok(End::Enough)
    }

    fn on_second(&mut self, handler: &mut impl Listener) -> Result<()> {
        self.tick += 1;
        maps::arm(&mut self.session.ebpf, self.tick)?;
        if self.session.backend == Backend::Census {
            // There is nothing but what the iterators show.
            self.pass(Purpose::Look, handler)?;
            return Ok(());
        }
        let tables = &self.tracker.tables;
        let awaited = tables.awaited();
        let is_due = self.last_pass.elapsed() > ROUTINE
            || tables.has_unread()
            || (awaited > 0 && self.awaited > 0);
        self.awaited = awaited;
        if (self.count_losses(handler)? || is_due) && self.next_pass.is_none() {
            self.next_pass = Some(Instant::now());
        }
        Ok(())
    }

    fn counters(&self) -> Result<[u64; PLACES.len()]> {
        let [ring, _, _, pending] = maps::counters(&self.session.ebpf)?;
        let skipped = self.misses.count() + pending;
        Ok([ring, skipped, self.tracker.tables.contradictions()])
    }

    /// Looks for losses; true if there are new ones.
    fn count_losses(&mut self, handler: &mut impl Listener) -> Result<bool> {
        let now = self.counters()?;
        let before = std::mem::replace(&mut self.counted, now);
        let mut is_new = false;
        for ((place, now), before) in PLACES.into_iter().zip(self.counted).zip(before) {
            let count = now.saturating_sub(before);
            if count > 0 {
                is_new = true;
                self.lost += count;
                handler.lost(Lost {
                    place,
                    count,
                    repaired: self.tracker.repaired,
                });
            }
        }
        Ok(is_new)
    }

    /// One pass, and a next one for as long as something is suspected or lost.
    fn heal(&mut self, handler: &mut impl Listener) -> Result<()> {
        let outcome = self.pass(Purpose::Reconcile, handler)?;
        let is_clean = outcome.is_some_and(|outcome| outcome.suspects == 0);
        let is_lost = self.count_losses(handler)?;
        self.next_pass = (!is_clean || is_lost).then(|| Instant::now() + CONFIRM);
        Ok(())
    }

    /// Heals what is suspected now, if anything. On a host that keeps losing records this ends too.
    pub(super) async fn settle(&mut self, handler: &mut impl Listener) -> Result<()> {
        const AT_MOST: usize = 20;
        let tracker = &mut self.tracker;
        self.ring.drain(|record| tracker.take(record, handler));
        if self.session.backend == Backend::Census {
            self.pass(Purpose::Look, handler)?;
            return Ok(());
        }
        if self.count_losses(handler)? || self.next_pass.is_some() {
            for _ in 0..AT_MOST {
                self.heal(handler)?;
                if self.next_pass.is_none() {
                    break;
                }
                self.wait(CONFIRM, handler).await;
            }
        }
        Ok(())
    }

    /// Two looks at the differences between the model and the kernel.
    pub(super) async fn compare(&mut self, handler: &mut impl Listener) -> Result<Outcome> {
        if self.session.backend == Backend::Census {
            return self.compare_looks(handler).await;
        }
        self.look_twice(CONFIRM, handler).await
    }

    async fn look_twice(
        &mut self,
        between: Duration,
        handler: &mut impl Listener,
    ) -> Result<Outcome> {
        self.pass(Purpose::Audit, handler)?;
        self.wait(between, handler).await;
        let outcome = self.pass(Purpose::Audit, handler)?;
        outcome.context("the ring buffer was full during the comparison: give more --ring-size")
    }

    /// On census the model is what the last look has shown, and whatever changes after it differs without
    /// being wrong. What is wrong differs after every look.
    async fn compare_looks(&mut self, handler: &mut impl Listener) -> Result<Outcome> {
        const LOOKS: usize = 3;
        let mut common: Option<Outcome> = None;
        for _ in 0..LOOKS {
            self.pass(Purpose::Look, handler)?;
            let mut outcome = self.look_twice(LOOK, handler).await?;
            if let Some(before) = common {
                let places: Vec<_> = before.differences.iter().map(Difference::place).collect();
                let is_old = |difference: &Difference| places.contains(&difference.place());
                outcome.differences.retain(is_old);
            }
            common = Some(outcome);
        }
        common.context("nothing was compared")
    }

    /// Waits, with the ring read meanwhile.
    async fn wait(&mut self, time: Duration, handler: &mut impl Listener) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(LOOK.min(time)).await;
            let tracker = &mut self.tracker;
            self.ring.drain(|record| tracker.take(record, handler));
        }
    }
}
