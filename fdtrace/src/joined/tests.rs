use fdtrace_common::slot::{STAMP_INHERITED, STAMP_NONE, STAMP_OTHER, STAMP_TIME_SHIFT};
use zerocopy::FromZeros as _;

use super::*;

/// When the look ended, and the tick that it ended in.
const NOW_NS: u64 = 5_000_000_000;
const NOW: u64 = 10_000;

fn row(files: u64, fd: u32, file: u64, stamp: u64) -> JoinedRecord {
    let mut row = JoinedRecord::new_zeroed();
    row.seen.files = files;
    row.seen.fd = fd;
    row.seen.file = file;
    row.seen.tgid = 7;
    row.stamp = stamp;
    row
}

fn mark() -> JoinedRecord {
    let mut mark = row(0, 0, 0, NOW << STAMP_TIME_SHIFT);
    mark.seen.kind = RECORD_MARK;
    mark.seen.time_ns = NOW_NS;
    mark
}

/// Put there now by a thread.
fn at(tid: u64) -> u64 {
    (NOW << STAMP_TIME_SHIFT) + tid
}

fn look(mut rows: Vec<JoinedRecord>) -> Joined {
    rows.push(mark());
    Joined::new(Look {
        rows,
        ..Look::default()
    })
}

#[test]
fn a_slot_tells_since_when_and_by_whom() {
    let joined = look(vec![
        row(1, 3, 30, at(70)),
        row(1, 4, 40, at(60) | STAMP_INHERITED),
    ]);
    let fds: Vec<_> = joined.fds(1, 0).collect();
    let of = |fd: &OpenFd| (fd.fd, fd.since_ns, fd.is_inherited);
    assert_eq!(
        fds.iter().map(of).collect::<Vec<_>>(),
        [(3, NOW_NS, false), (4, NOW_NS, true)]
    );
    assert_eq!(joined.opened(1, 4).unwrap().tid, 60);
    assert_eq!((joined.unknown, joined.not_believed), (0, 0));
}

#[test]
fn what_no_slot_tells_is_open_all_the_same() {
    let joined = look(vec![row(1, 3, 30, STAMP_NONE), row(1, 4, 40, STAMP_OTHER)]);
    assert_eq!(joined.head(1).unwrap().open, 2);
    assert!(joined.fds(1, 0).all(|fd| fd.since_ns == 0));
    assert_eq!((joined.unknown, joined.not_believed), (2, 1));
}

#[test]
fn a_table_that_processes_share_is_one() {
    let stamp = at(70);
    let joined = look(vec![row(1, 3, 30, stamp), row(1, 3, 30, stamp)]);
    assert_eq!(joined.size(), (1, 1));
}

#[test]
fn a_look_without_its_end_is_none() {
    let joined = Joined::new(Look {
        rows: vec![row(1, 3, 30, STAMP_NONE)],
        ..Look::default()
    });
    assert_eq!(joined.size(), (0, 0));
}

#[test]
fn what_came_with_a_table_came_when_it_was_made() {
    const MADE_NS: u64 = 4_000_000_000;
    let rows = vec![
        row(1, 3, 30, at(60) | STAMP_INHERITED),
        row(1, 4, 40, STAMP_NONE),
        row(1, 5, 50, STAMP_OTHER),
        row(1, 6, 60, at(70)),
        mark(),
    ];
    let mut part = Part::default();
    (part.files, part.made_ns, part.opened) = (1, MADE_NS, 2);
    let joined = Joined::new(Look {
        rows,
        parts: vec![part],
        ..Look::default()
    });
    let since: Vec<_> = joined.fds(1, 0).map(|open| open.since_ns).collect();
    assert_eq!(since, [MADE_NS, MADE_NS, 0, NOW_NS]);
    assert_eq!((joined.unknown, joined.not_believed), (1, 1));
    assert_eq!(joined.opened_count(1), Some(2));
}

#[test]
fn what_hooks_may_have_missed_is_not_taken_for_inherited() {
    const MADE_NS: u64 = 4_000_000_000;
    let mut part = Part::default();
    (part.files, part.made_ns) = (1, MADE_NS);
    let missed = |missed| {
        let joined = Joined::new(Look {
            rows: vec![
                row(1, 3, 30, at(60) | STAMP_INHERITED),
                row(1, 4, 40, STAMP_NONE),
                mark(),
            ],
            parts: vec![part],
            missed,
            ..Look::default()
        });
        let since: Vec<_> = joined.fds(1, 0).map(|open| open.since_ns).collect();
        (since, joined.ages_unknown())
    };
    assert_eq!(missed(Missed::default()), (vec![MADE_NS; 2], None));
    let without_chunk = Missed {
        without_chunk: 7,
        skipped: 0,
    };
    let why = "ages unknown for 1 fds: there was no room for 7";
    assert_eq!(missed(without_chunk), (vec![MADE_NS, 0], Some(why.into())));
    let skipped = Missed {
        without_chunk: 7,
        skipped: 9,
    };
    let why = "ages unknown for 1 fds: there was no room for 7, and the kernel skipped 9 calls";
    assert_eq!(missed(skipped), (vec![MADE_NS, 0], Some(why.into())));
}
