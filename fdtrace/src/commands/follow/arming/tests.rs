use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    record::{RECORD_BOUND, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{
    model::Model,
    stream::{decode::Task, record::Changed},
};

const SECOND: u64 = 1_000_000_000;

fn model(tables: &[(u64, u32, u64)], now_ns: u64) -> Model {
    let mut model = Model::default();
    let mut tasks = Vec::new();
    for ((files, open, soft), tid) in tables.iter().zip(1..) {
        let thread = ThreadRecord {
            kind: RECORD_BOUND,
            files: *files,
            tgid: tid,
            tid,
            ..ThreadRecord::new_zeroed()
        };
        model.tables.apply(Changed::Bound(&thread), &mut ());
        for fd in 0..*open {
            let record = OpenRecord {
                kind: RECORD_OPENED,
                fd,
                files: *files,
                file: u64::from(fd) + 1,
                time_ns: now_ns,
                ..OpenRecord::new_zeroed()
            };
            model.tables.apply(Changed::Opened(&record), &mut ());
        }
        tasks.push(Task {
            files: *files,
            tgid: tid,
            tid,
            soft: *soft,
            hard: *soft,
            used: Some(*open),
            comm: Vec::new(),
        });
    }
    let _ = model.limits.look(tasks);
    model
}

#[test]
fn tables_that_are_a_quarter_full_or_grow_are_chosen() {
    let mut arming = Arming::new(Stacks::Named);
    assert_eq!(arming.openers(), Openers::Nobody);
    let now = 100 * SECOND;
    let model = model(
        &[
            (1, 25, 100),
            (2, 24, 100),
            (3, 64, 100_000),
            (4, 63, 100_000),
        ],
        now,
    );
    assert_eq!(arming.choose(&model, now), Some(vec![1, 3]));
    assert_eq!(arming.openers(), Openers::Named([1, 3, 0, 0, 0, 0]));
    assert_eq!(arming.choose(&model, now + SECOND), None, "nothing is new");
    // The third has stopped growing; it stays for a while.
    assert_eq!(arming.choose(&model, now + 60 * SECOND), None);
    assert_eq!(arming.choose(&model, now + 72 * SECOND), Some(vec![]));
    assert_eq!(*arming.tables(), BTreeSet::from([1]));
}

#[test]
fn a_table_at_the_same_address_is_another_one() {
    let mut arming = Arming::new(Stacks::Named);
    let now = 100 * SECOND;
    arming.choose(&model(&[(9, 50, 100)], now), now);
    let other = model(&[(8, 1, 100), (9, 1, 100)], now);
    assert_eq!(arming.choose(&other, now), Some(vec![]));
    assert_eq!(arming.openers(), Openers::Nobody);
}

#[test]
fn nothing_is_chosen_where_all_or_none_are_wanted() {
    let now = 100 * SECOND;
    let model = model(&[(1, 50, 100)], now);
    for (stacks, openers) in [
        (Stacks::Always, Openers::All),
        (Stacks::Never, Openers::Nobody),
    ] {
        let mut arming = Arming::new(stacks);
        assert_eq!(arming.choose(&model, now), None);
        assert_eq!(arming.openers(), openers);
    }
}
