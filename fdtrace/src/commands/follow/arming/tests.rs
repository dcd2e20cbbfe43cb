use super::*;
use crate::{
    engine::{fake::Fake, table::OpenFd},
    ground::task::Task,
};

const SECOND: u64 = 1_000_000_000;

/// Tables with so many fds each, opened just now, and such a limit.
fn engine(tables: &[(u64, u32, u64)], now_ns: u64) -> Fake {
    let mut engine = Fake::default();
    for ((files, open, soft), tid) in tables.iter().zip(1..) {
        engine.bind(tid, tid, *files, "");
        for fd in 0..*open {
            let open = OpenFd {
                fd,
                since_ns: now_ns,
                ..OpenFd::default()
            };
            engine.open(*files, open, "");
        }
        engine.limits.push(Task {
            files: *files,
            tgid: tid,
            tid,
            soft: *soft,
            hard: *soft,
            used: Some(*open),
            comm: Vec::new(),
        });
    }
    engine
}

#[test]
fn tables_that_are_a_quarter_full_or_grow_are_chosen() {
    let mut arming = Arming::new(Stacks::Named);
    assert_eq!(arming.openers(), Openers::Nobody);
    let now = 100 * SECOND;
    let engine = engine(
        &[
            (1, 25, 100),
            (2, 24, 100),
            (3, 64, 100_000),
            (4, 63, 100_000),
        ],
        now,
    );
    assert_eq!(arming.choose(&engine, now), Some(vec![1, 3]));
    assert_eq!(arming.openers(), Openers::Named([1, 3, 0, 0, 0, 0]));
    assert_eq!(arming.choose(&engine, now + SECOND), None, "nothing is new");
    // The third has stopped growing; it stays for a while.
    assert_eq!(arming.choose(&engine, now + 60 * SECOND), None);
    assert_eq!(arming.choose(&engine, now + 72 * SECOND), Some(vec![]));
    assert_eq!(*arming.tables(), BTreeSet::from([1]));
}

#[test]
fn a_table_at_the_same_address_is_another_one() {
    let mut arming = Arming::new(Stacks::Named);
    let now = 100 * SECOND;
    arming.choose(&engine(&[(9, 50, 100)], now), now);
    let other = engine(&[(8, 1, 100), (9, 1, 100)], now);
    assert_eq!(arming.choose(&other, now), Some(vec![]));
    assert_eq!(arming.openers(), Openers::Nobody);
}

#[test]
fn nothing_is_chosen_where_all_or_none_are_wanted() {
    let now = 100 * SECOND;
    let engine = engine(&[(1, 50, 100)], now);
    for (stacks, openers) in [
        (Stacks::Always, Openers::All),
        (Stacks::Never, Openers::Nobody),
    ] {
        let mut arming = Arming::new(stacks);
        assert_eq!(arming.choose(&engine, now), None);
        assert_eq!(arming.openers(), openers);
    }
}
