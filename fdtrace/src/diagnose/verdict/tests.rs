//! Verdicts on tables that are played through the model, a step at a time.

use std::collections::BTreeSet;

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
    diagnose::holders::holders,
    engine::{
        Engine,
        table::{Connection, Table},
    },
    ground::{kind::Kind as FdKind, tcp_state::TcpState},
    model::{Model, tables::reconcile::Purpose},
    stream::record::Changed,
};

const FILES: u64 = 1;
const LIMIT: u64 = 1_000;
/// Steps in a second.
const STEPS: u64 = 20;

/// A process that opens and closes.
struct Play {
    model: Model,
    step: u64,
    file: u64,
    /// Open fds, oldest first.
    open: Vec<(u32, u64)>,
    /// Numbers below the highest one so far that are free again.
    free: BTreeSet<u32>,
    is_exhausted: bool,
    /// When it began, where that was seen.
    begun_ns: u64,
    /// What it opens is a connection in this state, accepted or not.
    connection: Option<(TcpState, bool)>,
    /// Every second one of them was made by the process itself.
    is_proxy: bool,
    /// Nobody has looked yet where the connections from this number on lead to.
    unknown_from: u32,
}

impl Play {
    /// One that had so many open before anybody looked.
    fn with(before: u32) -> Self {
        let mut play = Self {
            model: Model::default(),
            step: 100 * STEPS,
            file: 1,
            open: Vec::new(),
            free: BTreeSet::new(),
            is_exhausted: false,
            begun_ns: 0,
            connection: None,
            is_proxy: false,
            unknown_from: u32::MAX,
        };
        let mut pass = play.model.tables.begin_pass();
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
            pass.slot(&mut play.model.tables, &record);
            play.open.push((fd, play.file));
            play.file += 1;
        }
        play.model.tables.end_pass(pass, Purpose::Baseline, &mut ());
        let now_ns = play.now_ns();
        play.model.second(now_ns);
        play
    }

    /// One that fdtrace has seen start.
    fn from_start() -> Self {
        let mut play = Self::with(0);
        play.begun_ns = play.now_ns();
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
            // The lowest free one, as the kernel has it.
            let next = u32::try_from(self.open.len()).unwrap();
            let fd = self.free.pop_first().unwrap_or(next);
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
            if self.connection.is_some() {
                record.known_kind = FdKind::Tcp as u16 + 1;
            }
            let tables = &mut self.model.tables;
            tables.apply(Changed::Opened(&record), &mut ());
            self.open.push((fd, self.file));
            self.file += 1;
        }
    }

    fn close_at(&mut self, index: usize) {
        if index >= self.open.len() {
            return;
        }
        let (fd, file) = self.open.remove(index);
        self.free.insert(fd);
        let record = CloseRecord {
            kind: RECORD_CLOSED,
            fd,
            files: FILES,
            file,
            time_ns: self.now_ns(),
            ..CloseRecord::new_zeroed()
        };
        let tables = &mut self.model.tables;
        tables.apply(Changed::Closed(&record), &mut ());
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
            self.model.second(now_ns);
        }
    }

    fn seconds(&mut self, seconds: u64, mut each: impl FnMut(&mut Self, u64)) {
        for step in 0..seconds * STEPS {
            each(self, step);
            self.step();
        }
    }

    fn evidence(&self) -> Evidence {
        let table = &self.table();
        let holders = holders(table);
        Evidence {
            is_exhausted: self.is_exhausted,
            ..Evidence::of(Subject {
                table,
                limit: Some(LIMIT),
                largest: holders.first(),
                begun_ns: self.begun_ns,
                now_ns: self.now_ns(),
            })
        }
    }

    fn table(&self) -> Table {
        let mut table = self.model.table(FILES).unwrap();
        let entries = table.entries.iter_mut();
        for entry in entries.filter(|entry| entry.open.kind == FdKind::Tcp) {
            let is_made = self.is_proxy && entry.open.fd % 2 == 1;
            if entry.open.fd >= self.unknown_from {
                continue;
            }
            entry.connection = self.connection.map(|(state, is_client)| Connection {
                state,
                is_client: is_client && !is_made,
            });
        }
        table
    }

    /// The first report: at the first call that fails.
    fn until_full(&mut self, mut each: impl FnMut(&mut Self, u64)) {
        for step in 0..1_000 * STEPS {
            each(self, step);
            if self.is_exhausted {
                return;
            }
            self.step();
        }
        panic!("never full: {:#?}", self.evidence());
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

/// What the table at this address held before was another one.
#[test]
fn a_table_has_no_peak_after_the_quiet_of_another_one() {
    let mut play = Play::with(20);
    play.seconds(20, |_, _| {});
    let burst = |play: &mut Play| {
        play.open(100);
        play.close_newest(20);
        play.seconds(1, |_, _| {});
    };
    play.begun_ns = play.now_ns();
    burst(&mut play);
    assert_eq!(play.evidence().peak, None);
    play.begun_ns = 0;
    assert!(play.evidence().peak.is_some());
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
            .any(|words| words.contains("went down")),
        "{verdict:?}"
    );
}

#[test]
fn what_came_by_fork_is_inherited() {
    let mut model = Model::default();
    let tables = &mut model.tables;
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
    let table = &model.table(FILES).unwrap();
    let evidence = Evidence::of(Subject {
        table,
        limit: Some(64),
        largest: None,
        begun_ns: table.made_ns,
        now_ns: 1_000_000_005,
    });
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
        verdict.evidence[0].contains("at least 4 s needed"),
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

/// An interpreter needs seconds to start on a slow machine, and nobody looks at a table that holds so little. Its
/// standard streams were put in place just after it had begun.
#[test]
fn a_rate_counts_from_where_it_began_to_grow() {
    for streams in [0, 3] {
        let mut play = Play::from_start();
        play.step();
        play.open(streams);
        play.seconds(6, |_, _| ());
        play.seconds(10, |play, _| play.open(1));
        let growth = play.evidence().growth.expect("it grows");
        let per_min = growth.per_min();
        assert!((1180.0..=1220.0).contains(&per_min), "{growth:?}");
        assert!(growth.seconds < 10.5, "{growth:?}");
    }
}

/// The kernel gives the memory of a table that has ended to the next one, between two looks.
#[test]
fn the_past_of_another_table_at_the_same_address_is_none_of_its_own() {
    let mut play = Play::with(0);
    play.seconds(8, |play, _| play.open(3));
    let full = play.evidence();
    assert!(full.highest > 400 && full.growth.is_some(), "{full:?}");
    // All of it has gone; a process that began a moment ago has this table now.
    play.close_newest(full.open);
    play.step();
    play.begun_ns = play.now_ns();
    play.seconds(6, |play, _| play.open(1));
    let evidence = play.evidence();
    assert_eq!(evidence.highest, 120, "{evidence:?}");
    let growth = evidence.growth.expect("it grows");
    assert!(
        growth.from <= 40 && growth.since_ns >= play.begun_ns,
        "{growth:?}"
    );
}

/// Looks are a second apart, but not to the millisecond.
#[test]
fn four_seconds_are_long_enough_also_where_a_look_came_early() {
    let mut play = Play::with(20);
    play.seconds(6, |play, _| play.open(1));
    let grown_in = |seconds| {
        let mut evidence = play.evidence();
        evidence.growth = None;
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

/// As Python does at its start: much is opened and closed, one after the other.
fn imports(play: &mut Play) {
    for _ in 0..200 {
        play.open(2);
        play.close_newest(2);
    }
}

#[test]
fn a_leak_after_a_busy_start_is_a_leak_at_its_first_report() {
    let mut play = Play::from_start();
    play.open(3);
    imports(&mut play);
    play.until_full(|play, _| play.open(10));
    let verdict = play.expect(Kind::Leak);
    assert_eq!(
        verdict.evidence,
        [
            "minimum open rose 0 to 1000 in 5.0 s",
            "413 of 413 open 3.0 s ago still open",
            "1000 of 1000 are file data"
        ],
    );
    assert!((verdict.growth_per_min.unwrap() - 12_000.0).abs() < 300.0);
}

/// Files that a program holds while it starts are not what fills its table later.
#[test]
fn what_was_held_at_the_start_and_closed_does_not_hide_a_leak() {
    let mut play = Play::from_start();
    play.open(120);
    play.seconds(2, |_, _| {});
    play.close_newest(100);
    play.until_full(|play, _| play.open(10));
    play.expect(Kind::Leak);
}

#[test]
fn a_pool_that_was_opened_at_the_start_does_not_hide_a_leak() {
    let mut play = Play::from_start();
    play.open(700);
    play.until_full(|play, _| play.open(2));
    let verdict = play.expect(Kind::Leak);
    assert!(
        (verdict.growth_per_min.unwrap() - 2_400.0).abs() < 300.0,
        "{verdict:?}"
    );
}

/// A server with a few dozen requests at once, each of which is closed, and a leak beside them.
#[test]
fn a_leak_beside_requests_is_a_leak_where_it_fills_the_table() {
    let mut play = Play::from_start();
    play.open(20);
    let mut kept = 20;
    play.until_full(|play, step| {
        // Each lives for a second.
        play.open(5);
        if step >= STEPS {
            play.close_oldest(5, kept);
        }
        if step % 2 == 0 {
            play.open(1);
            let leaked = play.open.pop();
            play.open.splice(kept..kept, leaked);
            kept += 1;
        }
    });
    let verdict = play.expect(Kind::Leak);
    assert!(
        (verdict.growth_per_min.unwrap() - 600.0).abs() < 120.0,
        "{verdict:?}"
    );
}

#[test]
fn a_leak_that_begins_after_long_quiet_is_one_at_once() {
    let mut play = Play::with(30);
    play.seconds(150, |_, _| {});
    play.until_full(|play, _| play.open(10));
    let verdict = play.expect(Kind::Leak);
    assert!(
        (verdict.growth_per_min.unwrap() - 12_000.0).abs() < 1_500.0,
        "{verdict:?}"
    );
    // And still is when the table has been full for as long.
    play.seconds(150, |play, _| play.open(1));
    play.expect(Kind::Leak);
}

/// A tenth of what is opened is closed, and the oldest stays: the first report of the leak.
#[test]
fn a_few_closings_do_not_make_it_unknown() {
    let mut play = Play::from_start();
    play.until_full(|play, step| {
        play.open(10);
        play.close_newest(u32::from(step % STEPS == 7));
    });
    play.expect(Kind::Leak);
}

#[test]
fn connected_clients_are_load_and_those_that_hung_up_are_a_leak() {
    for (state, is_client, kind) in [
        (TcpState::ESTABLISHED, true, Kind::Saturation),
        (TcpState::CLOSE_WAIT, true, Kind::Leak),
        (TcpState::ESTABLISHED, false, Kind::Leak),
        (TcpState::CLOSE_WAIT, false, Kind::Leak),
    ] {
        let mut play = Play::from_start();
        play.open(20);
        play.connection = Some((state, is_client));
        play.until_full(|play, _| play.open(8));
        let verdict = play.expect(kind);
        let words = match kind {
            Kind::Saturation => "980 of 1000 are connected clients (ESTABLISHED)",
            _ if state == TcpState::CLOSE_WAIT => {
                "980 of 1000 in CLOSE_WAIT: closed by the other end only"
            }
            _ => "980 of 1000 are tcp",
        };
        assert!(
            verdict.evidence.iter().any(|told| told == words),
            "{verdict:?}"
        );
    }
}

/// fdtrace was started when it was too late, or all came at once.
#[test]
fn a_table_of_connections_that_hung_up_needs_no_history() {
    let mut play = Play::from_start();
    play.connection = Some((TcpState::CLOSE_WAIT, true));
    play.open(999);
    play.seconds(2, |_, _| {});
    play.open(2);
    let verdict = play.expect(Kind::Leak);
    assert_eq!(verdict.growth_per_min, None);
    // A moment ago is none: a busy server comes to it.
    let mut play = Play::from_start();
    play.connection = Some((TcpState::CLOSE_WAIT, true));
    play.open(1_001);
    play.expect(Kind::Unknown);
}

#[test]
fn clients_that_fill_what_a_pool_has_left_are_load() {
    let mut play = Play::from_start();
    play.open(600);
    play.connection = Some((TcpState::ESTABLISHED, true));
    play.until_full(|play, _| play.open(3));
    let verdict = play.expect(Kind::Saturation);
    assert_eq!(
        verdict.evidence,
        ["400 of 1000 are connected clients (ESTABLISHED)"]
    );
}

/// A cache that still grows cannot be told from a leak: it is said.
#[test]
fn different_files_may_be_those_of_a_cache() {
    let told = |inodes: &dyn Fn(u64) -> u64| {
        let mut play = Play::from_start();
        play.open(20);
        play.seconds(10, |play, _| play.open(2));
        let mut table = play.table();
        for (index, entry) in table.entries.iter_mut().enumerate() {
            entry.open.inode = inodes(index as u64);
        }
        let holders = holders(&table);
        let evidence = Evidence::of(Subject {
            table: &table,
            limit: Some(LIMIT),
            largest: holders.first(),
            begun_ns: play.begun_ns,
            now_ns: play.now_ns(),
        });
        assert_eq!(Verdict::of(&evidence).kind, Kind::Leak);
        evidence.different_files
    };
    assert_eq!(told(&|index| index), Some(420));
    assert_eq!(told(&|_| 7), None, "the same again and again");
    assert_eq!(told(&|index| index / 2), None, "each twice");
}

/// On a busy host it takes a while to learn where a connection leads to.
#[test]
fn connections_that_are_not_known_yet_are_taken_to_be_like_the_others() {
    for (is_client, kind) in [(true, Kind::Saturation), (false, Kind::Leak)] {
        let mut play = Play::from_start();
        play.open(600);
        play.connection = Some((TcpState::ESTABLISHED, is_client));
        play.unknown_from = 700;
        play.until_full(|play, _| play.open(3));
        play.expect(kind);
    }
}

/// Each client of a proxy has a connection to the server behind, for as long as it waits.
#[test]
fn clients_of_a_proxy_are_load_with_what_was_made_for_them() {
    let mut play = Play::from_start();
    play.open(20);
    play.connection = Some((TcpState::ESTABLISHED, true));
    play.is_proxy = true;
    play.until_full(|play, _| play.open(8));
    let verdict = play.expect(Kind::Saturation);
    assert_eq!(
        verdict.evidence,
        [
            "490 of 1000 are connected clients (ESTABLISHED)",
            "490 are connections made for them"
        ]
    );
}

/// A table that fills up and is emptied, again and again: somebody does close.
#[test]
fn a_saw_is_no_leak() {
    let mut play = Play::from_start();
    play.open(20);
    for _ in 0..3 {
        play.seconds(9, |play, _| play.open(5));
        play.close_newest(880);
    }
    play.until_full(|play, _| play.open(5));
    assert_ne!(play.verdict().kind, Kind::Leak);
}

#[test]
fn a_cache_at_its_size_is_load_at_its_first_report() {
    let mut play = Play::from_start();
    play.open(20);
    play.seconds(40, |play, _| {
        play.open(10);
        if play.open.len() > 950 {
            play.close_oldest(10, 20);
        }
    });
    play.until_full(|play, _| play.open(10));
    play.expect(Kind::Saturation);
}

/// Nothing that was not seen is said: no "0 of 0", no "0.0 s", nothing of a past that there was none of.
#[test]
fn what_nobody_has_seen_is_no_evidence() {
    let mut play = Play::from_start();
    play.open(1_001);
    let verdict = play.expect(Kind::Unknown);
    assert_eq!(verdict.evidence, ["1000 of 1000 are file data"]);
    let verdict = Verdict::of(&Evidence::default());
    assert_eq!(verdict.evidence, ["at least 4 s of observation needed"]);
}

/// Just above and just below each boundary of a leak, one at a time.
#[test]
fn each_boundary_of_a_leak_has_two_sides() {
    let leaks = |growth: &dyn Fn(&mut Play)| {
        let mut play = Play::from_start();
        play.open(20);
        growth(&mut play);
        play.verdict().kind == Kind::Leak
    };
    // Enough in number.
    let slow = |count: u32| {
        move |play: &mut Play| {
            play.seconds(u64::from(count), |play, step| {
                play.open(u32::from(step % STEPS == 0));
            });
        }
    };
    assert!(leaks(&slow(9)) && !leaks(&slow(6)));
    // Enough in time.
    let fast = |seconds: u64| move |play: &mut Play| play.seconds(seconds, |play, _| play.open(2));
    assert!(leaks(&fast(5)) && !leaks(&fast(3)));
    // Spread: three lumps of four seconds are, two are not.
    let lumps = |count: u64| {
        move |play: &mut Play| {
            play.seconds(4 * count, |play, step| {
                play.open(if step % (4 * STEPS) == STEPS { 40 } else { 0 });
            });
        }
    };
    assert!(leaks(&lumps(4)) && !leaks(&lumps(2)));
    // Kept: most of what was opened and stayed for a while.
    let closing = |each: u64| {
        move |play: &mut Play| {
            play.seconds(40, |play, step| {
                play.open(1);
                if step > STEPS && step % 10 < each {
                    play.close_oldest(1, 20);
                }
            });
        }
    };
    assert!(leaks(&closing(1)) && !leaks(&closing(8)));
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
            prop_assert!(evidence.growth.unwrap().kept >= GROWN_MIN);
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
