//! Verdicts on tables that are played through the model, a step at a time.

use fdtrace_common::{
    change::{CloseRecord, CopyRecord, IN_SCOPE, OpenRecord, SlotsRecord, ThreadRecord},
    record::{
        RECORD_BOUND, RECORD_CLOSED, RECORD_COPIED, RECORD_COPIED_SLOTS, RECORD_OPENED, RECORD_SEEN,
    },
};
use proptest::prelude::*;
use zerocopy::FromZeros;

use super::*;
use crate::{
    diagnose::holders::{NO_OPENERS, holders},
    model::{
        held::Ends,
        tables::{Tables, reconcile::Purpose},
        trend::Trends,
    },
    stream::record::Changed,
};

const FILES: u64 = 1;
const LIMIT: u64 = 1_000;
/// Steps in a second.
const STEPS: u64 = 20;

/// A process that opens and closes.
struct Play {
    tables: Tables,
    trends: Trends,
    step: u64,
    file: u64,
    /// Open fds, oldest first.
    open: Vec<(u32, u64)>,
    is_exhausted: bool,
}

impl Play {
    /// One that had so many open before anybody looked.
    fn with(before: u32) -> Self {
        let mut play = Self {
            tables: Tables::default(),
            trends: Trends::default(),
            step: 100 * STEPS,
            file: 1,
            open: Vec::new(),
            is_exhausted: false,
        };
        let mut pass = play.tables.begin_pass();
        pass.thread(ThreadRecord {
            kind: RECORD_BOUND,
            files: FILES,
            tgid: 9,
            tid: 9,
            ..ThreadRecord::new_zeroed()
        });
        for fd in 0..before {
            let record = OpenRecord {
                kind: RECORD_SEEN,
                fd,
                files: FILES,
                file: play.file,
                ..OpenRecord::new_zeroed()
            };
            pass.slot(&mut play.tables, &record);
            play.open.push((fd, play.file));
            play.file += 1;
        }
        play.tables.end_pass(pass, Purpose::Baseline, &mut ());
        let now_ns = play.now_ns();
        play.trends.look(&mut play.tables, now_ns);
        play
    }

    fn now_ns(&self) -> u64 {
        self.step * (1_000_000_000 / STEPS)
    }

    fn open(&mut self, count: u32) {
        for _ in 0..count {
            if self.open.len() as u64 >= LIMIT {
                self.is_exhausted = true;
                return;
            }
            let mut fds: Vec<u32> = self.open.iter().map(|(fd, _)| *fd).collect();
            fds.sort_unstable();
            let free = (0..).zip(&fds).find(|(fd, taken)| fd != *taken);
            let fd = free.map_or(u32::try_from(fds.len()).unwrap(), |(fd, _)| fd);
            let mut record = OpenRecord {
                kind: RECORD_OPENED,
                fd,
                files: FILES,
                file: self.file,
                time_ns: self.now_ns(),
                mode: 0o100_644,
                ..OpenRecord::new_zeroed()
            };
            record.name[..4].copy_from_slice(b"data");
            self.tables.apply(Changed::Opened(&record), &mut ());
            self.open.push((fd, self.file));
            self.file += 1;
        }
    }

    fn close_at(&mut self, index: usize) {
        if index >= self.open.len() {
            return;
        }
        let (fd, file) = self.open.remove(index);
        let record = CloseRecord {
            kind: RECORD_CLOSED,
            fd,
            files: FILES,
            file,
            time_ns: self.now_ns(),
            ..CloseRecord::new_zeroed()
        };
        self.tables.apply(Changed::Closed(&record), &mut ());
    }

    /// Closes the oldest ones that have been opened by itself.
    fn close_oldest(&mut self, count: u32, from: usize) {
        for _ in 0..count {
            self.close_at(from);
        }
    }

    fn close_newest(&mut self, count: u32) {
        for _ in 0..count {
            self.close_at(self.open.len().wrapping_sub(1));
        }
    }

    /// A step of time; every second, somebody looks.
    fn step(&mut self) {
        self.step += 1;
        if self.step.is_multiple_of(STEPS) {
            let now_ns = self.now_ns();
            self.trends.look(&mut self.tables, now_ns);
        }
    }

    fn seconds(&mut self, seconds: u64, mut each: impl FnMut(&mut Self, u64)) {
        for step in 0..seconds * STEPS {
            each(self, step);
            self.step();
        }
    }

    fn evidence(&self) -> Evidence {
        let table = self.tables.table(FILES).unwrap();
        let holders = holders(table, self.tables.names(), &Ends::default(), NO_OPENERS);
        let trend = self.trends.of(FILES, table.generation);
        Evidence {
            is_exhausted: self.is_exhausted,
            ..Evidence::of(table, trend, Some(LIMIT), holders.first(), self.now_ns())
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict::of(&self.evidence())
    }

    fn expect(&self, kind: Kind) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.kind, kind, "{verdict:?}\n{:#?}", self.evidence());
        assert!(!verdict.evidence.is_empty());
        verdict
    }
}

#[test]
fn a_file_that_is_never_closed_is_a_leak_with_its_growth() {
    let mut play = Play::with(20);
    play.seconds(20, |play, _| play.open(1));
    let verdict = play.expect(Kind::Leak);
    let growth = verdict.growth_per_min.unwrap();
    assert!((growth - 1_200.0).abs() < 60.0, "{growth}");
    assert!(
        verdict
            .evidence
            .iter()
            .any(|words| words.contains("are file data")),
        "{verdict:?}"
    );
}

#[test]
fn a_leak_among_much_that_is_closed_is_a_leak_all_the_same() {
    let mut play = Play::with(20);
    play.seconds(60, |play, step| {
        play.open(5);
        play.close_newest(5);
        play.open(u32::from(step % 10 == 0));
    });
    let verdict = play.expect(Kind::Leak);
    let growth = verdict.growth_per_min.unwrap();
    assert!((growth - 120.0).abs() < 12.0, "{growth}");
}

#[test]
fn a_leak_that_has_reached_its_limit_still_is_one() {
    let mut play = Play::with(20);
    play.seconds(100, |play, _| play.open(1));
    assert!(play.is_exhausted);
    play.expect(Kind::Leak);
}

#[test]
fn a_crawler_that_needs_more_than_it_may_have_is_saturation() {
    // Each connection lives for two seconds or so, and there is work for far more.
    let mut play = Play::with(10);
    play.seconds(30, |play, step| {
        play.open(30);
        if step > 2 * STEPS {
            play.close_oldest(25, 10);
        }
    });
    assert!(play.is_exhausted);
    play.expect(Kind::Saturation);
}

#[test]
fn load_that_rises_for_a_minute_is_no_leak() {
    let mut play = Play::with(10);
    play.seconds(60, |play, step| {
        // Lives for a second; ever more at once.
        let rate = u32::try_from(step / 40).unwrap();
        play.open(rate);
        if step > STEPS {
            play.close_oldest(u32::try_from((step - STEPS) / 40).unwrap(), 10);
        }
    });
    play.expect(Kind::Saturation);
}

#[test]
fn a_pool_at_its_size_does_not_leak() {
    let mut play = Play::with(20);
    play.seconds(2, |play, _| play.open(20));
    play.seconds(30, |play, _| {
        play.open(1);
        play.close_newest(1);
    });
    play.expect(Kind::Saturation);
    let mut still = Play::with(900);
    still.seconds(30, |_, _| {});
    still.expect(Kind::Saturation);
}

#[test]
fn a_cache_that_closes_its_oldest_is_load() {
    let mut play = Play::with(20);
    play.seconds(40, |play, _| {
        play.open(10);
        if play.open.len() > 950 {
            play.close_oldest(10, 20);
        }
    });
    play.expect(Kind::Saturation);
}

#[test]
fn a_peak_after_quiet_is_a_burst_when_it_has_gone_down_before() {
    let mut play = Play::with(30);
    play.seconds(20, |_, _| {});
    play.seconds(1, |play, _| play.open(45));
    play.seconds(1, |play, _| play.close_newest(45));
    play.seconds(20, |_, _| {});
    play.seconds(1, |play, _| play.open(50));
    let verdict = play.expect(Kind::Burst);
    assert!(
        verdict
            .evidence
            .iter()
            .any(|words| words.contains("gone down")),
        "{verdict:?}"
    );
}

#[test]
fn what_came_by_fork_is_inherited() {
    let mut tables = Tables::default();
    let copied = CopyRecord {
        kind: RECORD_COPIED,
        flags: IN_SCOPE,
        time_ns: 5,
        from: 3,
        files: FILES,
        tgid: 1,
        tid: 1,
        call: 56,
        uid: 0,
    };
    tables.apply(Changed::Copied(&copied), &mut ());
    let mut slots = SlotsRecord {
        kind: RECORD_COPIED_SLOTS,
        files: FILES,
        ..SlotsRecord::new_zeroed()
    };
    slots.slots = [9; 64];
    tables.apply(Changed::CopiedSlots(&slots), &mut ());
    let table = tables.table(FILES).unwrap();
    let evidence = Evidence::of(table, None, Some(64), None, 1_000_000_005);
    let verdict = Verdict::of(&evidence);
    assert_eq!(verdict.kind, Kind::Inherited);
    assert_eq!(verdict.evidence, ["64 of 64 came by fork, unshare or exec"]);
    assert_eq!((evidence.opened, evidence.closed), (0, 0));
}

#[test]
fn without_time_there_is_no_verdict() {
    let mut play = Play::with(20);
    play.seconds(1, |play, _| play.open(60));
    let verdict = play.expect(Kind::Unknown);
    assert!(
        verdict.evidence[0].contains("growth shows after"),
        "{verdict:?}"
    );
    // A table that was full before anybody looked, and nothing closed since.
    let mut play = Play::with(1_000);
    play.seconds(20, |play, _| play.open(1));
    let verdict = play.expect(Kind::Unknown);
    assert!(
        verdict.evidence[0].contains("before fdtrace"),
        "{verdict:?}"
    );
}

/// Looks are a second apart, but not to the millisecond.
#[test]
fn four_seconds_are_long_enough_also_where_a_look_came_early() {
    let mut play = Play::with(20);
    play.seconds(6, |play, _| play.open(1));
    let grown_in = |seconds| {
        let mut evidence = play.evidence();
        evidence.rise.as_mut().unwrap().seconds = seconds;
        evidence.growth_per_min()
    };
    assert!(grown_in(3.99).is_some());
    assert!(grown_in(3.5).is_none());
}

#[test]
fn noise_is_no_leak() {
    let mut play = Play::with(100);
    play.seconds(60, |play, step| match step % 7 {
        0 => play.open(3),
        3 => play.close_newest(2),
        5 => play.close_newest(1),
        _ => {}
    });
    assert_ne!(play.verdict().kind, Kind::Leak);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_and_no_leak_without_time_and_growth(
        before in 0_u32..900,
        seconds in 0_u64..12,
        rates in prop::collection::vec((0_u32..20, 0_u32..20), 1..20),
    ) {
        let mut play = Play::with(before);
        play.seconds(seconds, |play, step| {
            let (open, close) = rates[usize::try_from(step).unwrap() % rates.len()];
            play.open(open);
            play.close_newest(close);
        });
        let evidence = play.evidence();
        let verdict = Verdict::of(&evidence);
        prop_assert!(!verdict.evidence.is_empty());
        if verdict.kind == Kind::Leak {
            prop_assert!(evidence.seconds >= SECONDS_MIN);
            prop_assert!(verdict.growth_per_min.unwrap() > 0.0);
            prop_assert!(evidence.highest >= before.saturating_add(RISE_MIN));
        }
    }

    #[test]
    fn a_leak_stays_one_the_longer_it_is_seen(rate in 1_u32..3, seconds in 6_u64..40) {
        let mut play = Play::with(10);
        play.seconds(seconds, |play, _| play.open(rate));
        prop_assert_eq!(play.verdict().kind, Kind::Leak);
        play.seconds(seconds, |play, _| play.open(rate));
        prop_assert_eq!(play.verdict().kind, Kind::Leak);
    }
}
