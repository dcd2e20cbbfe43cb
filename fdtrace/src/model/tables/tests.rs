//! The model against a kernel of a few lines, with records in order, out of order, lost and doubled.

mod kernel;
mod names;

use std::collections::BTreeMap;

use fdtrace_common::{
    change::{MAYBE_TOLD, UNREAD},
    record::{RECORD_BOUND, RECORD_CLOSED, RECORD_SEEN},
};
use proptest::prelude::*;
use zerocopy::FromZeros;

use self::kernel::{Kernel, Step, Told, UNSHARE};
use super::{
    reconcile::{Outcome, Purpose},
    *,
};

fn model() -> Tables {
    Tables::new(Calls {
        unshare: vec![UNSHARE],
        dup: vec![32],
        receive: vec![47],
    })
}

type Contents = BTreeMap<u64, BTreeMap<u32, u64>>;

/// What the model says every table holds; those that nobody uses do not count.
fn contents(tables: &Tables) -> Contents {
    let used = tables.all().filter(|(_, table)| table.threads > 0);
    used.map(|(files, table)| {
        let slots = table.slots().map(|(fd, slot)| (fd, slot.file));
        (files, slots.collect())
    })
    .collect()
}

fn bindings(tables: &Tables) -> BTreeMap<u32, u64> {
    let threads = tables.threads.iter();
    threads.map(|(tid, thread)| (*tid, thread.files)).collect()
}

fn check(tables: &Tables, kernel: &Kernel) {
    assert_eq!(contents(tables), kernel.tables);
    let tasks = kernel.tasks.iter().map(|(tid, task)| (*tid, task.files));
    assert_eq!(bindings(tables), tasks.collect());
    let open: u64 = kernel.tables.values().map(|table| table.len() as u64).sum();
    let idle = tables.all().filter(|(_, table)| table.threads == 0);
    assert_eq!(
        tables.open(),
        open + idle.map(|(_, table)| u64::from(table.open)).sum::<u64>()
    );
}

fn pass(tables: &mut Tables, kernel: &Kernel, purpose: Purpose) -> Outcome {
    let mut pass = tables.begin_pass();
    for thread in kernel.show_threads() {
        pass.thread(thread);
    }
    for slot in kernel.show_slots() {
        pass.slot(tables, &slot);
    }
    tables.end_pass(pass, purpose, &mut ())
}

/// A kernel with one process, and a model that knows it.
fn known() -> (Kernel, Tables) {
    let kernel = Kernel::new();
    let tables = tables_of(&kernel);
    (kernel, tables)
}

/// A model that knows everything.
fn tables_of(kernel: &Kernel) -> Tables {
    let mut tables = model();
    pass(&mut tables, kernel, Purpose::Baseline);
    check(&tables, kernel);
    tables
}

/// Generation, open, turnover, what is awaited, and the slots with their files and times.
type State = (u64, u32, table::Turnover, usize, Vec<(u32, u64, u64)>);

/// All that is known of every table.
fn state(tables: &Tables) -> BTreeMap<u64, State> {
    let tables = tables.all().map(|(files, table)| {
        let slots = table.slots();
        let slots = slots.map(|(fd, slot)| (fd, slot.file, slot.since_ns));
        let (generation, open) = (table.generation, table.open);
        let state = (
            generation,
            open,
            table.turnover,
            table.awaited(),
            slots.collect(),
        );
        (files, state)
    });
    tables.collect()
}

/// A look at one process's table, and which generation of it the model takes it for.
fn look_at(tables: &mut Tables, tgid: u32, started_ns: u64, files: &[u64]) -> u64 {
    const TABLE: u64 = 4_096;
    let mut pass = tables.begin_pass();
    pass.thread(ThreadRecord {
        kind: RECORD_BOUND,
        files: TABLE,
        tgid,
        tid: tgid,
        started_ns,
        ..ThreadRecord::new_zeroed()
    });
    for (fd, file) in (0..).zip(files) {
        let slot = OpenRecord {
            kind: RECORD_SEEN,
            fd,
            files: TABLE,
            file: *file,
            tgid,
            tid: tgid,
            ..OpenRecord::new_zeroed()
        };
        pass.slot(tables, &slot);
    }
    tables.end_pass(pass, Purpose::Look, &mut ());
    let table = tables.table(TABLE).expect("it is shown");
    assert_eq!(
        contents(tables)[&TABLE]
            .values()
            .copied()
            .collect::<Vec<_>>(),
        files
    );
    assert_eq!(table.tgid, tgid);
    table.generation
}

#[test]
fn a_look_knows_a_table_from_the_next_one_at_its_address() {
    let mut tables = model();
    let first = look_at(&mut tables, 1, 5, &[16, 32]);
    assert_eq!(look_at(&mut tables, 1, 5, &[16, 32, 48]), first);
    let second = look_at(&mut tables, 2, 7, &[16, 64]);
    assert_ne!(second, first, "another process's");
    assert_eq!(look_at(&mut tables, 2, 7, &[16]), second);
    assert_ne!(
        look_at(&mut tables, 2, 9, &[16]),
        second,
        "of the same number"
    );
}

/// A look at fd 3 of process 1, where a file lies at the same address as ever.
fn look_at_inode(tables: &mut Tables, inode: u64, mode: u16) -> Vec<Op> {
    let mut pass = tables.begin_pass();
    for _ in 0..2 {
        pass.thread(ThreadRecord {
            kind: RECORD_BOUND,
            files: 4_096,
            tgid: 1,
            tid: 1,
            started_ns: 5,
            ..ThreadRecord::new_zeroed()
        });
        let slot = OpenRecord {
            kind: RECORD_SEEN,
            fd: 3,
            files: 4_096,
            file: 16,
            tgid: 1,
            tid: 1,
            inode,
            mode,
            ..OpenRecord::new_zeroed()
        };
        pass.slot(tables, &slot);
    }
    let mut changes: Vec<Change> = Vec::new();
    tables.end_pass(pass, Purpose::Look, &mut changes);
    changes.iter().map(|change| change.op).collect()
}

#[test]
fn a_look_knows_a_file_from_the_next_one_at_its_address() {
    const FIFO: u16 = 0o010_644;
    const FILE: u16 = 0o100_644;
    let mut tables = model();
    assert_eq!(look_at_inode(&mut tables, 7, FILE), [Op::Open]);
    assert_eq!(look_at_inode(&mut tables, 7, FILE), []);
    let known = |tables: &Tables| tables.table(4_096).unwrap().get(3).unwrap();
    let before = known(&tables);
    assert_eq!(look_at_inode(&mut tables, 8, FIFO), [Op::Open]);
    let after = known(&tables);
    assert_eq!((after.inode, after.file), (8, before.file));
    assert_ne!(after.kind, before.kind);
    assert_eq!(look_at_inode(&mut tables, 8, FIFO), []);
}

fn apply(tables: &mut Tables, told: impl IntoIterator<Item = Told>) {
    for record in told {
        tables.apply(record.changed(), &mut ());
    }
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8_usize;
    prop_oneof![
        6 => who.clone().prop_map(Step::Open),
        5 => (who.clone(), 0..16_usize).prop_map(|(who, which)| Step::Close(who, which)),
        4 => (who.clone(), 0..16_usize, 0..200_u32)
            .prop_map(|(who, which, to)| Step::Dup2(who, which, to)),
        2 => who.clone().prop_map(Step::Fork),
        2 => who.clone().prop_map(Step::Thread),
        1 => who.clone().prop_map(Step::Unshare),
        1 => (who.clone(), any::<u64>()).prop_map(|(who, keep)| Step::Exec(who, keep)),
        3 => who.prop_map(Step::Exit),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

/// Lets closings be overtaken, as kernels before 6.8 do: by whatever other threads tell, until the
/// thread that closes tells something else.
fn overtaken(told: Vec<Told>, delays: &[usize]) -> Vec<Told> {
    let mut delays = delays.iter().cycle();
    let mut late: Vec<(usize, Told)> = Vec::new();
    let mut out = Vec::new();
    for record in told {
        // What belongs together in the kernel stays together.
        let teller = record.teller();
        let (due, still): (Vec<_>, Vec<_>) = late.into_iter().partition(|(delay, closing)| {
            teller.is_some() && (*delay == 0 || closing.teller() == teller)
                || matches!(record, Told::Executed(_))
        });
        late = still;
        out.extend(due.into_iter().map(|(_, closing)| closing));
        for (delay, _) in &mut late {
            *delay = delay.saturating_sub(1);
        }
        match (&record, delays.next()) {
            (Told::Closed(_), Some(delay)) if *delay > 0 => late.push((*delay, record)),
            _ => out.push(record),
        }
    }
    out.extend(late.into_iter().map(|(_, closing)| closing));
    out
}

/// Interleaved as processors interleave them, and the peak that they come to together.
#[test]
fn what_opens_and_closes_between_two_looks_is_its_number_and_its_peak() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    apply(&mut tables, std::mem::take(&mut kernel.told));
    for _ in 0..3 {
        kernel.step(Step::Open(0));
    }
    for _ in 0..3 {
        kernel.step(Step::Close(0, 2));
    }
    let before = tables.table(0x1000).unwrap().turnover;
    for record in std::mem::take(&mut kernel.told) {
        tables.apply_soon(record.changed(), &mut ());
        assert_eq!(tables.open(), 2, "nothing of it comes into a slot");
    }
    tables.settle(&mut ());
    check(&tables, &kernel);
    let turnover = tables.table(0x1000).unwrap().turnover;
    assert_eq!((turnover.gained - before.gained, turnover.high), (3, 5));
}

proptest! {
    #[test]
    fn records_in_order_give_the_kernels_tables(steps in steps()) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
            apply(&mut tables, std::mem::take(&mut kernel.told));
            check(&tables, &kernel);
        }
        prop_assert_eq!(tables.contradictions(), 0);
        let outcome = pass(&mut tables, &kernel, Purpose::Reconcile);
        prop_assert_eq!((outcome.repaired, outcome.suspects), (0, 0));
    }

    #[test]
    fn a_snapshot_is_the_whole_model(steps in steps()) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
        }
        apply(&mut tables, std::mem::take(&mut kernel.told));
        let mut copy = model();
        let mut pass = copy.begin_pass();
        tables.snapshot_threads().for_each(|thread| pass.thread(thread));
        for slot in tables.snapshot_slots() {
            pass.slot(&mut copy, &slot);
        }
        copy.end_pass(pass, Purpose::Baseline, &mut ());
        check(&copy, &kernel);
        for (files, table) in tables.all() {
            for (fd, slot) in table.slots() {
                let copied = copy.table(files).unwrap().get(fd).unwrap();
                prop_assert_eq!(copy.names.get(copied.name), tables.names.get(slot.name));
                prop_assert_eq!(Slot { name: slot.name, ..copied }, slot);
            }
        }
    }

    #[test]
    fn closings_may_be_overtaken(steps in steps(), delays in prop::collection::vec(0..6_usize, 1..40)) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
        }
        let told = overtaken(std::mem::take(&mut kernel.told), &delays);
        apply(&mut tables, told);
        prop_assert_eq!(tables.contradictions(), 0);
        check(&tables, &kernel);
    }

    /// Whatever is late, lost or doubled: in batches, all comes out as it does one by one.
    #[test]
    fn what_waits_for_its_closing_makes_no_difference(
        steps in steps(),
        delays in prop::collection::vec(0..6_usize, 1..40),
        fates in prop::collection::vec(0..12_u8, 1..50),
    ) {
        let (mut kernel, mut tables) = known();
        let mut batches = tables_of(&kernel);
        for step in steps {
            kernel.step(step);
        }
        let told = overtaken(std::mem::take(&mut kernel.told), &delays);
        for (record, fate) in told.into_iter().zip(fates.iter().cycle()) {
            let times = [0, 2].get(usize::from(*fate)).copied().unwrap_or(1);
            for _ in 0..times {
                tables.apply(record.changed(), &mut ());
                batches.apply_soon(record.changed(), &mut ());
            }
            if *fate == 2 {
                batches.settle(&mut ());
                prop_assert_eq!(state(&batches), state(&tables));
            }
        }
        batches.settle(&mut ());
        prop_assert_eq!(state(&batches), state(&tables));
        prop_assert_eq!(batches.contradictions(), tables.contradictions());
        let outcomes = [&mut tables, &mut batches].map(|tables| {
            let outcome = pass(tables, &kernel, Purpose::Reconcile);
            (outcome.repaired, outcome.suspects)
        });
        prop_assert_eq!(outcomes[0], outcomes[1]);
    }

    #[test]
    fn a_close_told_twice_counts_once(steps in steps()) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
            for record in std::mem::take(&mut kernel.told) {
                apply(&mut tables, [record.clone()]);
                if let Told::Closed(mut record) = record {
                    record.flags |= MAYBE_TOLD;
                    apply(&mut tables, [Told::Closed(record)]);
                }
            }
        }
        prop_assert_eq!(tables.contradictions(), 0);
        check(&tables, &kernel);
    }

    #[test]
    fn what_is_lost_or_doubled_is_healed_by_two_passes(
        steps in steps(),
        fates in prop::collection::vec(0..6_u8, 1..50),
    ) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
        }
        let told = std::mem::take(&mut kernel.told);
        for (record, fate) in told.into_iter().zip(fates.iter().cycle()) {
            match fate {
                0 => {}
                1 => apply(&mut tables, [record.clone(), record]),
                _ => apply(&mut tables, [record]),
            }
        }
        let first = pass(&mut tables, &kernel, Purpose::Reconcile);
        let differ = first.suspects;
        let second = pass(&mut tables, &kernel, Purpose::Reconcile);
        prop_assert!(second.repaired <= differ as u64);
        // A table that ends with its last thread takes its slots along; one more look tells.
        for _ in 0..3 {
            pass(&mut tables, &kernel, Purpose::Reconcile);
        }
        check(&tables, &kernel);
        let last = pass(&mut tables, &kernel, Purpose::Audit);
        prop_assert_eq!((last.suspects, last.differences), (0, vec![]));
    }

    #[test]
    fn a_start_under_load_is_exact_after_one_pass(
        before in steps(),
        during in prop::collection::vec(steps(), 1..4),
        after in steps(),
    ) {
        let (mut kernel, mut tables) = (Kernel::new(), model());
        for step in before {
            kernel.step(step);
        }
        // Nothing is told before the hooks are armed.
        kernel.told.clear();
        let mut pass = tables.begin_pass();
        for thread in kernel.show_threads() {
            pass.thread(thread);
        }
        // The iterator looks at some slots, things happen, it looks at others.
        let parts = during.len();
        for (part, steps) in during.into_iter().enumerate() {
            for (index, slot) in kernel.show_slots().into_iter().enumerate() {
                if index % parts == part {
                    pass.slot(&mut tables, &slot);
                }
            }
            for step in steps {
                kernel.step(step);
            }
            apply(&mut tables, std::mem::take(&mut kernel.told));
        }
        // What it has passed over it shows in the next pass, which is part of the start as well.
        tables.end_pass(pass, Purpose::Baseline, &mut ());
        self::pass(&mut tables, &kernel, Purpose::Baseline);
        check(&tables, &kernel);
        for step in after {
            kernel.step(step);
        }
        apply(&mut tables, std::mem::take(&mut kernel.told));
        check(&tables, &kernel);
    }

    #[test]
    fn a_pass_that_meets_changes_repairs_nothing(
        before in steps(),
        during in prop::collection::vec(steps(), 2..5),
    ) {
        let (mut kernel, mut tables) = known();
        for step in before {
            kernel.step(step);
        }
        apply(&mut tables, std::mem::take(&mut kernel.told));
        for steps in during {
            let mut pass = tables.begin_pass();
            for thread in kernel.show_threads() {
                pass.thread(thread);
            }
            let slots = kernel.show_slots();
            for step in steps {
                kernel.step(step);
            }
            // What is shown is old by now.
            for slot in slots {
                pass.slot(&mut tables, &slot);
            }
            apply(&mut tables, std::mem::take(&mut kernel.told));
            let outcome = tables.end_pass(pass, Purpose::Reconcile, &mut ());
            prop_assert_eq!(outcome.repaired, 0);
            check(&tables, &kernel);
        }
    }

    #[test]
    fn names_are_given_back_with_their_last_slot(steps in steps()) {
        let (mut kernel, mut tables) = known();
        for step in steps {
            kernel.step(step);
        }
        let mut told = std::mem::take(&mut kernel.told);
        for record in &mut told {
            if let Told::Opened(record) = record {
                record.name[0] = b'a' + u8::try_from(record.file / 16 % 26).unwrap();
            }
        }
        apply(&mut tables, told);
        while kernel.tasks.len() > 1 {
            kernel.step(Step::Exit(0));
        }
        for _ in 0..200 {
            kernel.step(Step::Close(0, 0));
        }
        apply(&mut tables, std::mem::take(&mut kernel.told));
        check(&tables, &kernel);
        prop_assert!(tables.names().is_empty());
    }
}

/// The facts of a few records.
fn facts(steps: &[Step]) -> Vec<(Op, u32)> {
    let (mut kernel, mut tables) = known();
    for step in steps {
        kernel.step(*step);
    }
    let mut changes: Vec<Change> = Vec::new();
    for record in &kernel.told {
        tables.apply(record.changed(), &mut changes);
    }
    changes
        .iter()
        .map(|change| (change.op, change.open.fd))
        .collect()
}

#[test]
fn each_change_is_one_fact() {
    // Number 0 is open to begin with.
    assert_eq!(
        facts(&[Step::Open(0), Step::Dup2(0, 0, 1), Step::Close(0, 0)]),
        [(Op::Open, 1), (Op::Replace, 1), (Op::Close, 0)]
    );
    assert_eq!(
        facts(&[
            Step::Open(0),
            Step::Fork(0),
            Step::Exec(1, 0b10),
            Step::Exit(1)
        ]),
        [
            (Op::Open, 1),
            (Op::Inherit, 0),
            (Op::Inherit, 1),
            (Op::CloseExec, 0),
            (Op::CloseExit, 1)
        ]
    );
    // A thread that ends closes nothing, one that unshares leaves the others theirs.
    assert_eq!(facts(&[Step::Thread(0), Step::Exit(1)]), []);
    assert_eq!(
        facts(&[Step::Thread(0), Step::Unshare(1), Step::Exit(1)]),
        [(Op::Inherit, 0), (Op::CloseExit, 0)]
    );
}

#[test]
fn a_table_too_large_for_records_is_read_by_the_next_pass() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    kernel.step(Step::Fork(0));
    for record in std::mem::take(&mut kernel.told) {
        match record {
            Told::CopiedSlots(_) => {}
            Told::Copied(mut record) => {
                record.flags |= UNREAD;
                apply(&mut tables, [Told::Copied(record)]);
            }
            other => apply(&mut tables, [other]),
        }
    }
    assert!(tables.has_unread());
    let outcome = pass(&mut tables, &kernel, Purpose::Reconcile);
    assert_eq!((outcome.repaired, tables.has_unread()), (0, false));
    check(&tables, &kernel);
}

#[test]
fn a_table_too_large_for_the_records_of_an_exec_is_read_by_the_next_pass() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    kernel.step(Step::Open(0));
    kernel.step(Step::Exec(0, 0b11));
    for record in std::mem::take(&mut kernel.told) {
        match record {
            // What is told of it has none of the numbers that exec has closed.
            Told::Executed(mut record) => {
                record.flags |= UNREAD;
                record.words = 0;
                apply(&mut tables, [Told::Executed(record)]);
            }
            other => apply(&mut tables, [other]),
        }
    }
    assert!(tables.has_unread());
    let outcome = pass(&mut tables, &kernel, Purpose::Reconcile);
    assert_eq!((outcome.repaired, tables.has_unread()), (0, false));
    check(&tables, &kernel);
}

#[test]
fn what_closes_in_a_table_not_yet_read_is_no_contradiction() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    kernel.step(Step::Fork(0));
    for record in std::mem::take(&mut kernel.told) {
        match record {
            Told::CopiedSlots(_) => {}
            Told::Copied(mut record) => {
                record.flags |= UNREAD;
                apply(&mut tables, [Told::Copied(record)]);
            }
            other => apply(&mut tables, [other]),
        }
    }
    let child = *kernel.tasks.keys().last().unwrap();
    // The iterator has been at the child's slot when it closes.
    let mut pass = tables.begin_pass();
    for thread in kernel.show_threads() {
        pass.thread(thread);
    }
    for slot in kernel.show_slots() {
        pass.slot(&mut tables, &slot);
    }
    let files = kernel.tasks[&child].files;
    let (fd, file) = kernel.tables[&files]
        .first_key_value()
        .map(|(fd, file)| (*fd, *file))
        .unwrap();
    kernel.tables.get_mut(&files).unwrap().remove(&fd);
    let closed = CloseRecord {
        kind: RECORD_CLOSED,
        fd,
        files,
        file,
        ..FromZeros::new_zeroed()
    };
    apply(&mut tables, [Told::Closed(closed)]);
    let outcome = tables.end_pass(pass, Purpose::Reconcile, &mut ());
    assert_eq!((outcome.repaired, outcome.suspects), (0, 0));
    assert_eq!((tables.contradictions(), tables.awaited()), (0, 0));
    check(&tables, &kernel);
}

#[test]
fn a_difference_counts_when_it_is_seen_twice() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    kernel.told.clear();
    let first = pass(&mut tables, &kernel, Purpose::Audit);
    assert_eq!((first.suspects, first.differences.len()), (1, 0));
    let second = pass(&mut tables, &kernel, Purpose::Audit);
    assert_eq!(second.differences.len(), 1);
    let third = pass(&mut tables, &kernel, Purpose::Reconcile);
    assert_eq!(third.repaired, 1);
    check(&tables, &kernel);
}

#[test]
fn a_close_of_something_unknown_is_a_contradiction() {
    let (kernel, mut tables) = known();
    let record = CloseRecord {
        kind: RECORD_CLOSED,
        fd: 9,
        files: 0x1000,
        file: 0x990,
        ..FromZeros::new_zeroed()
    };
    apply(&mut tables, [Told::Closed(record)]);
    // It might be early; nothing comes, and it was not.
    for contradictions in [0, 1] {
        pass(&mut tables, &kernel, Purpose::Reconcile);
        assert_eq!(tables.contradictions(), contradictions);
    }
}

#[test]
fn a_late_replacement_meets_its_early_closing() {
    let (kernel, mut tables) = known();
    let replacing = |file: u64| {
        Told::Opened(OpenRecord {
            kind: RECORD_REPLACED,
            fd: 0,
            files: 0x1000,
            file,
            replaced: ANY_FILE,
            ..FromZeros::new_zeroed()
        })
    };
    let closing = |file: u64| {
        Told::Closed(CloseRecord {
            kind: RECORD_CLOSED,
            fd: 0,
            files: 0x1000,
            file,
            ..FromZeros::new_zeroed()
        })
    };
    // dup2 of 0x990 over what is there; somebody else closes it before that is told.
    apply(&mut tables, [closing(0x990), replacing(0x990)]);
    assert_eq!(contents(&tables)[&0x1000], BTreeMap::new());
    // The same, and the number has been opened anew meanwhile.
    apply(&mut tables, [closing(0x990)]);
    let mut again = Kernel::new();
    again.tables.get_mut(&0x1000).unwrap().clear();
    again.step(Step::Open(0));
    apply(&mut tables, std::mem::take(&mut again.told));
    assert_eq!(contents(&tables)[&0x1000].len(), 1);
    assert_eq!((tables.contradictions(), kernel.tasks.len()), (0, 1));
}

#[test]
fn a_lost_close_is_healed_in_a_slot_that_is_never_quiet() {
    let (mut kernel, mut tables) = known();
    kernel.step(Step::Open(0));
    apply(&mut tables, std::mem::take(&mut kernel.told));
    kernel.step(Step::Close(0, 1));
    kernel.told.clear();
    for looks in 0..3 {
        kernel.step(Step::Open(0));
        apply(&mut tables, std::mem::take(&mut kernel.told));
        assert_eq!(tables.awaited(), usize::from(looks < 2), "{looks} looks");
        let mut pass = tables.begin_pass();
        for slot in kernel.show_slots() {
            pass.slot(&mut tables, &slot);
        }
        kernel.step(Step::Close(0, 1));
        kernel.step(Step::Open(0));
        apply(&mut tables, std::mem::take(&mut kernel.told));
        for thread in kernel.show_threads() {
            pass.thread(thread);
        }
        tables.end_pass(pass, Purpose::Settle, &mut ());
        kernel.step(Step::Close(0, 1));
        apply(&mut tables, std::mem::take(&mut kernel.told));
    }
    check(&tables, &kernel);
}

/// Found by the fuzzer: the last word of such a bitmap lies beyond all numbers.
#[test]
fn numbers_that_no_table_has_are_no_reason_to_panic() {
    let (_, mut tables) = known();
    for first in [FD_END, u32::MAX - 63, u32::MAX] {
        let executed = BitsRecord {
            first,
            files: 0x1000,
            words: 64,
            bits: [u64::MAX; 64],
            ..BitsRecord::new_zeroed()
        };
        let copied = SlotsRecord {
            first,
            files: 0x1000,
            slots: [0x10; CHUNK],
            ..SlotsRecord::new_zeroed()
        };
        tables.apply(Changed::Executed(&executed), &mut ());
        tables.apply(Changed::CopiedSlots(&copied), &mut ());
    }
    assert_eq!((tables.contradictions(), tables.open()), (6, 1));
}
