use super::*;
use crate::{engine::fake::Fake, enrich::stacks::Detail, ground::kind::Kind};

fn task(tgid: u32) -> Task {
    Task {
        files: u64::from(tgid),
        tgid,
        tid: tgid,
        soft: 100,
        hard: 100,
        used: None,
        comm: b"x".to_vec(),
    }
}

/// A look, and the rows that come of it.
fn block(
    outstanding: &Outstanding,
    rows: &mut Rows,
    engine: &Fake,
    tasks: &[Task],
    now_ns: u64,
) -> Block {
    rows.block(&outstanding.look(engine, tasks, now_ns), |_| None)
}

/// A file of a process, whose table has the same number.
fn open(engine: &mut Fake, tgid: u32, fd: u32, name: &'static str, since_ns: u64) {
    let files = u64::from(tgid);
    if engine.head(files).is_none() {
        engine.bind(tgid, tgid, files, "x");
    }
    let open = OpenFd {
        fd,
        file: u64::from(fd) + 1,
        since_ns,
        kind: Kind::File,
        ..OpenFd::default()
    };
    engine.open(files, open, name);
}

fn told(block: &Block) -> Vec<(u32, &[u8], u32, Option<i64>)> {
    let told = block.rows.iter().map(|row| {
        let target = row.holder.target.as_deref().unwrap_or_default();
        (row.pid, target, row.holder.count, row.grown_by)
    });
    told.collect()
}

#[test]
fn what_is_old_and_its_own_is_outstanding_and_its_growth_is_told() {
    let mut engine = Fake::default();
    open(&mut engine, 5, 0, "before", 0);
    open(&mut engine, 5, 1, "given", 10);
    engine.entry(5, 1).open.is_inherited = true;
    open(&mut engine, 5, 2, "old", 10);
    open(&mut engine, 5, 3, "young", 70);
    open(&mut engine, 6, 0, "other", 20);
    let tasks = [task(5), task(6)];
    let (outstanding, mut rows) = (Outstanding::new(50, 10), Rows::new(10, Detail::Full));
    let first = block(&outstanding, &mut rows, &engine, &tasks, 100);
    assert_eq!(
        told(&first),
        [(5, &b"old"[..], 1, None), (6, b"other", 1, None)]
    );
    assert_eq!((first.fds, first.processes), (2, 2));
    open(&mut engine, 5, 4, "old", 80);
    let second = block(&outstanding, &mut rows, &engine, &tasks, 200);
    assert_eq!(
        told(&second),
        [
            (5, &b"old"[..], 2, Some(1)),
            (5, b"young", 1, Some(1)),
            (6, b"other", 1, Some(0))
        ]
    );
}

#[test]
fn the_largest_groups_are_told_and_all_are_counted() {
    let mut engine = Fake::default();
    for tgid in 1..=50 {
        for fd in 0..tgid {
            open(&mut engine, tgid, fd, "a", 1);
        }
    }
    let tasks: Vec<_> = (1..=50).map(task).collect();
    let (outstanding, mut rows) = (Outstanding::new(0, 3), Rows::new(3, Detail::Full));
    let block = block(&outstanding, &mut rows, &engine, &tasks, 100);
    let pids: Vec<_> = block.rows.iter().map(|row| row.pid).collect();
    assert_eq!(pids, [50, 49, 48]);
    assert_eq!((block.fds, block.processes), (50 * 51 / 2, 50));
}

/// Those without a stack are a group of their own, and each of the others has its own.
#[test]
fn fds_whose_stack_is_known_are_kept_one_by_one() {
    let mut engine = Fake::default();
    for fd in 0..6 {
        open(&mut engine, 5, fd, "a", 10 + u64::from(fd));
    }
    for fd in [1, 3] {
        engine.entry(5, fd).opener = Some(u64::from(fd) + 100);
    }
    let found = Outstanding::new(0, 10).look(&engine, &[task(5)], 100);
    let told = found.groups.iter().map(|group| {
        let opened = group.opened.iter();
        let opened: Vec<_> = opened
            .map(|opened| (opened.open.fd, opened.sequence))
            .collect();
        (group.holder.count, opened)
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(4, vec![]), (2, vec![(1, 101), (3, 103)])]);
    assert_eq!((found.fds, found.processes, found.is_cut), (6, 1, false));
}

#[test]
fn no_more_groups_are_kept_than_can_be_shown_in_the_end() {
    let mut engine = Fake::default();
    let processes = 4 * u32::try_from(KEPT_MIN).unwrap();
    for tgid in 1..=processes {
        open(&mut engine, tgid, 0, "a", 1);
    }
    let tasks: Vec<_> = (1..=processes).map(task).collect();
    let found = Outstanding::new(0, 10).look(&engine, &tasks, 100);
    assert_eq!((found.groups.len(), found.is_cut), (KEPT_MIN, true));
    assert_eq!(found.fds, u64::from(processes));
}

#[test]
fn what_a_full_process_holds_from_before_is_shown_as_such() {
    const SECOND: u64 = 1_000_000_000;
    let mut engine = Fake::default();
    for (pid, fds) in [(7, 90), (8, 20)] {
        for fd in 0..fds {
            open(&mut engine, pid, fd, "/etc/hostname", 0);
        }
    }
    let mut outstanding = Outstanding::new(SECOND, 10);
    outstanding.begin(&engine);
    engine.close(7, 3);
    open(&mut engine, 7, 3, "/etc/passwd", 5 * SECOND);
    outstanding.begin(&engine);
    let tasks = [(7, 90), (8, 20)].map(|(pid, used)| Task {
        used: Some(used),
        ..task(pid)
    });
    let found = outstanding.look(&engine, &tasks, 9 * SECOND);
    let [before] = found.before.as_slice() else {
        panic!("{:#?}", found.before);
    };
    assert_eq!((before.pid, before.open, before.closed), (7, 89, 1));
    let held: Vec<_> = before
        .holders
        .iter()
        .map(|holder| (holder.count, holder.target.as_deref()))
        .collect();
    assert_eq!(held, [(89, Some(&b"/etc/hostname"[..]))]);
    assert_eq!(found.fds, 1, "what was opened since is what is outstanding");
}
