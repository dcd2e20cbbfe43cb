use fdtrace_common::{
    change::{CloseRecord, OpenRecord},
    record::{RECORD_CLOSED, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{
    engine::{
        table::Stretch,
        trend::{STRETCHES_MAX, Trends, WORTHWHILE},
    },
    stream::record::Changed,
};

const SECOND: u64 = 1_000_000_000;

fn open(tables: &mut Tables, fds: std::ops::Range<u32>) {
    for fd in fds {
        let record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: 7,
            file: u64::from(fd) + 1,
            ..OpenRecord::new_zeroed()
        };
        tables.apply(Changed::Opened(&record), &mut ());
    }
}

fn close(tables: &mut Tables, fds: std::ops::Range<u32>) {
    for fd in fds {
        let record = CloseRecord {
            kind: RECORD_CLOSED,
            fd,
            files: 7,
            file: u64::from(fd) + 1,
            ..CloseRecord::new_zeroed()
        };
        tables.apply(Changed::Closed(&record), &mut ());
    }
}

fn generation(tables: &Tables) -> u64 {
    tables.table(7).unwrap().generation
}

#[test]
fn what_was_open_between_two_looks_counts_and_not_only_at_them() {
    let (mut tables, mut trends) = (Tables::default(), Trends::default());
    open(&mut tables, 0..20);
    trends.take(SECOND, tables.counted());
    open(&mut tables, 20..50);
    close(&mut tables, 10..50);
    open(&mut tables, 10..12);
    trends.take(2 * SECOND, tables.counted());
    let trend = trends.of(7, generation(&tables)).unwrap();
    let [first, second] = trend.stretches() else {
        panic!("{trend:?}");
    };
    assert_eq!((first.low, first.high, first.opened), (20, 20, 20));
    assert_eq!((second.low, second.high, second.open), (10, 50, 12));
    assert_eq!((second.opened, second.closed), (52, 40));
    assert_eq!((second.from_ns, second.until_ns), (SECOND, 2 * SECOND));
}

#[test]
fn a_long_past_costs_no_more_than_a_short_one_and_keeps_its_extremes() {
    let (mut tables, mut trends) = (Tables::default(), Trends::default());
    open(&mut tables, 0..100);
    for second in 1..10_000 {
        if second == 3_000 {
            close(&mut tables, 5..100);
            open(&mut tables, 5..100);
        }
        trends.take(second * SECOND, tables.counted());
    }
    let trend = trends.of(7, generation(&tables)).unwrap();
    assert!(trend.stretches().len() <= STRETCHES_MAX);
    assert_eq!(trend.stretches().iter().map(|part| part.low).min(), Some(5));
    let times: Vec<_> = trend.stretches().windows(2).collect();
    assert!(times.iter().all(|pair| pair[0].until_ns == pair[1].from_ns));
    assert_eq!(trend.stretches().last().unwrap().until_ns, 9_999 * SECOND);
}

/// How a table came to be full, long ago, and what has happened lately.
#[test]
fn what_has_changed_is_kept_in_detail_and_quiet_hours_are_not() {
    let (mut tables, mut trends) = (Tables::default(), Trends::default());
    open(&mut tables, 0..20);
    let mut open_fds = 20;
    for second in 1..20_000_u64 {
        let is_growing = (5_000..5_010).contains(&second) || second >= 19_990;
        if is_growing {
            open(&mut tables, open_fds..open_fds + 50);
            open_fds += 50;
        }
        trends.take(second * SECOND, tables.counted());
    }
    let trend = trends.of(7, generation(&tables)).unwrap();
    let short = |from: u64, until: u64| {
        let within = |part: &&Stretch| {
            (from * SECOND..=until * SECOND).contains(&part.from_ns)
                && part.until_ns - part.from_ns <= 2 * SECOND
        };
        trend.stretches().iter().filter(within).count()
    };
    assert!(short(4_999, 5_010) >= 5, "{trend:?}");
    assert!(short(19_980, 20_000) >= 9, "{trend:?}");
}

#[test]
fn small_tables_have_no_past_and_ended_ones_lose_theirs() {
    let (mut tables, mut trends) = (Tables::default(), Trends::default());
    open(&mut tables, 0..WORTHWHILE - 1);
    trends.take(SECOND, tables.counted());
    assert!(trends.is_empty());
    open(&mut tables, WORTHWHILE..WORTHWHILE + 1);
    trends.take(2 * SECOND, tables.counted());
    assert_eq!(trends.len(), 1);
    assert!(trends.of(7, generation(&tables) + 1).is_none());
    trends.take(3 * SECOND, std::iter::empty());
    assert!(trends.is_empty());
}
