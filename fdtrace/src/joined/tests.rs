use fdtrace_common::{
    peer::{NO_PEER, PEER_CLOSED},
    slot::{STAMP_INHERITED, STAMP_NONE, STAMP_OTHER, STAMP_TIME_SHIFT},
};
use zerocopy::FromZeros as _;

use super::*;
use crate::ground::{tcp_state::TcpState, unix_peer::UnixPeer};

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

/// A look at a table of so many fds, of which slots have counted so many openings.
fn look_at(seconds: u64, made_ns: u64, fds: u32, opened: u64) -> Look {
    let mut rows: Vec<_> = (0..fds)
        .map(|fd| row(1, fd, u64::from(fd) + 30, at(70)))
        .collect();
    let mut mark = mark();
    mark.seen.time_ns += seconds * 1_000_000_000;
    rows.push(mark);
    let mut part = Part::default();
    (part.files, part.made_ns, part.opened) = (1, made_ns, opened);
    Look {
        rows,
        parts: vec![part],
        ..Look::default()
    }
}

#[test]
fn looks_tell_together_what_has_come_and_gone_and_how_full_a_table_was() {
    let mut joined = Joined::default();
    joined.take(look_at(0, 0, 20, 3));
    joined.take(look_at(1, 0, 50, 40));
    joined.take(look_at(2, 0, 25, 45));
    assert_eq!(joined.first_looked_ns(), NOW_NS);
    let table = joined.table(1).unwrap();
    assert_eq!(table.followed_ns, NOW_NS);
    // 20 at first, and 42 since.
    assert_eq!((table.gained, table.copied, table.closed()), (62, 0, 37));
    let past: Vec<_> = table
        .past
        .iter()
        .map(|part| (part.low, part.high, part.open, part.opened, part.closed))
        .collect();
    let wanted = [
        (20, 20, 20, 20, 0),
        (20, 50, 50, 57, 7),
        (25, 50, 25, 62, 37),
    ];
    assert_eq!(past, wanted);
}

#[test]
fn another_table_at_the_same_address_has_no_past_and_a_look_without_an_end_is_none() {
    let mut joined = Joined::default();
    joined.take(look_at(0, 0, 20, 3));
    joined.take(look_at(1, 7_000_000_000, 18, 18));
    let table = joined.table(1).unwrap();
    assert_eq!((table.gained, table.closed(), table.past.len()), (18, 0, 1));
    let mut half = look_at(2, 7_000_000_000, 1, 18);
    half.rows.pop();
    joined.take(half);
    assert_eq!(joined.table(1).unwrap().open(), 18);
}

#[test]
fn a_table_that_processes_share_goes_on_where_one_of_them_ends() {
    let mut joined = Joined::default();
    joined.take(look_at(0, 7_000_000_000, 20, 3));
    let mut later = look_at(1, 7_000_000_000, 20, 4);
    for row in &mut later.rows {
        row.seen.tgid = 8;
    }
    joined.take(later);
    let table = joined.table(1).unwrap();
    assert_eq!(table.followed_ns, NOW_NS);
    assert_eq!((table.gained, table.past.len()), (4, 2));
}

#[test]
fn what_came_with_a_table_has_not_been_opened_in_it() {
    let mut joined = Joined::default();
    let mut look = look_at(0, 4_000_000_000, 5, 2);
    for row in &mut look.rows[..3] {
        row.stamp |= STAMP_INHERITED;
    }
    joined.take(look);
    let table = joined.table(1).unwrap();
    assert_eq!((table.gained, table.copied, table.closed()), (5, 3, 0));
}

#[test]
fn where_sockets_lead_to_and_who_has_opened_what_outlives_a_look() {
    let with_socket = |seconds| {
        let mut look = look_at(seconds, 0, 2, 0);
        look.rows[1].seen.inode = 77;
        look.rows[1].seen.mode = 0o140_000;
        look.rows[1].seen.family = 2;
        look.rows[1].seen.socket_type = 1;
        look
    };
    let mut joined = Joined::default();
    joined.take(with_socket(0));
    joined.sockets.take([(77, b"10.0.0.1:80".to_vec())]);
    joined.sockets.take_states([(77, TcpState::CLOSE_WAIT)]);
    let mut gone = Vec::new();
    joined.put_opener((1, 1, 31), 5, &mut gone);
    joined.take(with_socket(1));
    let table = joined.table(1).unwrap();
    let entry = table.entries[1];
    assert_eq!(entry.open.kind, Kind::Tcp);
    assert_eq!(table.target(entry.target), Some(&b"10.0.0.1:80"[..]));
    assert!(entry.is_close_wait());
    assert_eq!(entry.opener, Some(5));
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn the_other_end_of_a_unix_socket_is_what_the_last_look_has_found() {
    let with_peer = |seconds, peer| {
        let mut look = look_at(seconds, 0, 2, 0);
        look.rows[1].seen.inode = 77;
        look.rows[1].seen.replaced = peer;
        look
    };
    let mut joined = Joined::new(with_peer(0, 78));
    assert_eq!(joined.socket(77).peer, Some(UnixPeer::Socket(78)));
    joined.take(with_peer(1, PEER_CLOSED));
    assert_eq!(joined.socket(77).peer, Some(UnixPeer::Closed));
    let mut half = with_peer(2, NO_PEER);
    half.rows.pop();
    joined.take(half);
    assert_eq!(joined.socket(77).peer, Some(UnixPeer::Closed));
    joined.take(with_peer(3, NO_PEER));
    assert_eq!(joined.socket(77).peer, None);
}
