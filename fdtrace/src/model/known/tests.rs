use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    held::{HeldRecord, WHOLE},
    peer::{NO_PEER, PEER_CLOSED, PEER_WAITS},
    record::{RECORD_BOUND, RECORD_HELD, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{
    ground::{kind::Kind, tcp_state::TcpState},
    stream::record::Changed,
};

/// A process, 5, whose table, 1, has these open: kind, name and inode.
fn model(fds: &[(Kind, &str, u64)]) -> Model {
    let mut model = Model::default();
    let bound = ThreadRecord {
        kind: RECORD_BOUND,
        files: 1,
        tgid: 5,
        tid: 5,
        ..ThreadRecord::new_zeroed()
    };
    model.tables.apply(Changed::Bound(&bound), &mut ());
    for (fd, (kind, name, inode)) in (3..).zip(fds) {
        let mut record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: 1,
            file: u64::from(fd) + 100,
            time_ns: 7,
            inode: *inode,
            known_kind: *kind as u16 + 1,
            ..OpenRecord::new_zeroed()
        };
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        model.tables.apply(Changed::Opened(&record), &mut ());
    }
    model
}

fn targets(table: &Table) -> Vec<Option<&[u8]>> {
    let entries = table.entries.iter();
    entries.map(|entry| table.target(entry.target)).collect()
}

#[test]
fn ends_belong_to_sockets_of_that_inode() {
    let mut model = model(&[
        (Kind::Tcp, "", 7),
        (Kind::File, "log", 7),
        (Kind::Tcp, "", 8),
    ]);
    model.sockets.take([(7, b"10.0.0.1:80".to_vec())]);
    let table = model.table(1).unwrap();
    assert_eq!(
        targets(&table),
        [Some(&b"10.0.0.1:80"[..]), Some(b"log"), None]
    );
}

#[test]
fn the_other_end_of_a_unix_socket_is_what_the_kernel_has_told_last_and_goes_into_recordings() {
    let mut model = model(&[(Kind::Unix, "", 7)]);
    let told = [
        (11, Some(UnixPeer::Socket(11))),
        (PEER_WAITS, Some(UnixPeer::Waits)),
        (PEER_CLOSED, Some(UnixPeer::Closed)),
        (NO_PEER, None),
    ];
    for (number, peer) in told {
        let mut record = HeldRecord::new_zeroed();
        record.slot.inode = 7;
        record.slot.replaced = number;
        model.hold(&record);
        assert_eq!(model.socket(7).peer, peer);
        let mut kept = Vec::new();
        model.snapshot(0, &mut |event| {
            if let Event::Slot(slot) = event {
                kept.push(slot.replaced);
            }
        });
        assert_eq!(kept, [number]);
    }
    let mut pass = model.tables.begin_pass();
    let shown = OpenRecord {
        inode: 7,
        replaced: 12,
        ..OpenRecord::new_zeroed()
    };
    model.show(&mut pass, &shown);
    assert_eq!(model.socket(7).peer, Some(UnixPeer::Socket(12)));
}

#[test]
fn clients_are_those_that_came_in_by_a_port() {
    let mut model = model(&[7, 8, 9, 10].map(|inode| (Kind::Tcp, "", inode)));
    model.sockets.take([
        (7, b"clients of *:80".to_vec()),
        (8, b"10.0.0.1:80".to_vec()),
    ]);
    let states = [7, 8, 9].map(|inode| (inode, TcpState::ESTABLISHED));
    model.sockets.take_states(states);
    let table = model.table(1).unwrap();
    let sides = table.entries.iter().map(|entry| {
        let connection = entry.connection;
        connection.map(|connection| connection.is_client)
    });
    let sides: Vec<_> = sides.collect();
    assert_eq!(sides, [Some(true), Some(false), Some(false), None]);
}

#[test]
fn an_entry_has_its_age_and_whoever_opened_it_and_a_name_only_where_that_tells_something() {
    let mut model = model(&[
        (Kind::File, "log", 1),
        (Kind::Pipe, "pipe:[9]", 9),
        (Kind::File, "log", 2),
    ]);
    model.put_opener((1, 5, 105), 42, &mut Vec::new());
    // Of another file that was there before.
    model.put_opener((1, 3, 99), 43, &mut Vec::new());
    let table = model.table(1).unwrap();
    assert_eq!(targets(&table), [Some(&b"log"[..]), None, Some(b"log")]);
    assert_eq!(table.entries[0].target, table.entries[2].target);
    let openers: Vec<_> = table.entries.iter().map(|entry| entry.opener).collect();
    assert_eq!(openers, [None, None, Some(42)]);
    assert!(table.entries.iter().all(|entry| entry.open.since_ns == 7));
    assert_eq!((table.open(), table.gained, table.closed()), (3, 3, 0));
}

#[test]
fn a_table_that_another_process_has_by_now_is_not_shown_and_what_was_told_of_it_is() {
    let mut model = model(&[(Kind::File, "log", 1)]);
    let sighting = Sighting {
        files: 1,
        tid: 5,
        tgid: 5,
        started_ns: 0,
        open: Some(2),
    };
    model.tables.look_at(50);
    let followed = model.table_at(&sighting).unwrap();
    assert_eq!((followed.open(), followed.followed_ns), (1, 50));
    let other = Sighting {
        tid: 6,
        tgid: 6,
        ..sighting
    };
    assert_eq!(model.table_at(&other), None);
    for fd in [3, 4] {
        let mut record = HeldRecord::new_zeroed();
        record.slot.kind = RECORD_HELD;
        record.slot.flags = WHOLE;
        (record.slot.fd, record.slot.file) = (fd, u64::from(fd) + 100);
        (record.slot.files, record.slot.tgid, record.slot.tid) = (1, 6, 6);
        model.hold(&record);
    }
    let told = model.table_at(&other).unwrap();
    assert_eq!((told.open(), told.followed_ns), (2, 0));
}

#[test]
fn fds_are_those_from_a_number_on_and_a_file_is_there_or_not() {
    let model = model(&[(Kind::File, "a", 1); 5]);
    let fds: Vec<_> = model.fds(1, 5).map(|open| open.fd).collect();
    assert_eq!(fds, [5, 6, 7]);
    assert_eq!(model.fds(2, 0).count(), 0);
    assert!(model.has((1, 5, 105)));
    assert!(!model.has((1, 5, 104)) && !model.has((1, 8, 108)) && !model.has((2, 5, 105)));
    assert_eq!(model.size(), (5, 1));
}
