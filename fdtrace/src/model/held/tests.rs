use fdtrace_common::{
    change::OpenRecord,
    record::{RECORD_HELD, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{model::tables::Tables, stream::record::Changed};

const FAMILY_INET: u16 = 2;
const FAMILY_INET6: u16 = 10;
const STREAM: u16 = 1;

fn held(fd: u32, file: u64) -> HeldRecord {
    let mut record = HeldRecord::new_zeroed();
    record.slot.kind = RECORD_HELD;
    record.slot.fd = fd;
    record.slot.files = 1;
    record.slot.file = file;
    record.slot.tid = 9;
    record.slot.flags = WHOLE;
    record.slot.time_ns = 50;
    record.slot.mode = 0o100_644;
    record.slot.name[..3].copy_from_slice(b"log");
    record
}

fn tcp(fd: u32, local_port: u16, remote: Option<([u8; 4], u16)>) -> HeldRecord {
    let mut record = held(fd, u64::from(fd) + 100);
    record.slot.mode = 0o140_777;
    record.slot.family = FAMILY_INET;
    record.slot.socket_type = STREAM;
    record.local_port = local_port;
    if let Some((address, port)) = remote {
        record.remote[..4].copy_from_slice(&address);
        record.remote_port = port;
    }
    record
}

fn unix(fd: u32, path: &[u8]) -> HeldRecord {
    let mut record = held(fd, u64::from(fd) + 100);
    record.slot.mode = 0o140_777;
    record.slot.family = 1;
    record.unix_length = u16::try_from(path.len()).unwrap();
    let length = path.len().min(UNIX);
    record.unix[..length].copy_from_slice(&path[..length]);
    record
}

const UNIX: usize = fdtrace_common::held::UNIX_KEPT;

fn ends(records: &[HeldRecord]) -> Vec<(u32, String)> {
    let (mut all, mut names) = (Held::default(), Names::default());
    for record in records {
        all.take(record, &mut names);
    }
    let held = all.of(1, 9).unwrap();
    let ends = held.ends(&held.applied_to(None, 0, 0).unwrap());
    let mut ends: Vec<_> = ends
        .into_iter()
        .map(|(fd, end)| (fd, String::from_utf8_lossy(&end).into_owned()))
        .collect();
    ends.sort_unstable();
    ends
}

#[test]
fn sockets_lead_to_their_other_end_or_to_the_port_they_came_in_by() {
    let client = ([10, 0, 0, 9], 40_000);
    let mut six = tcp(4, 50_000, Some(([0; 4], 443)));
    six.slot.family = FAMILY_INET6;
    six.remote = Ipv6Addr::LOCALHOST.octets();
    let told = ends(&[
        tcp(0, 8080, None),
        tcp(1, 8080, Some(client)),
        tcp(2, 50_001, Some(([10, 0, 0, 3], 5432))),
        tcp(3, 0, None),
        six,
    ]);
    let expected = [
        (0, "*:8080"),
        (1, "clients of *:8080"),
        (2, "10.0.0.3:5432"),
        (4, "[::1]:443"),
    ];
    assert_eq!(told, expected.map(|(fd, end)| (fd, end.to_owned())));
}

#[test]
fn unix_sockets_lead_to_a_path_however_long() {
    let told = ends(&[
        unix(0, b"/run/db.sock\0"),
        unix(1, b"\0abstract"),
        unix(2, &[b'x'; 300]),
        unix(3, b""),
    ]);
    let cut = "x".repeat(UNIX);
    let expected = [(0, "/run/db.sock"), (1, "@abstract"), (2, cut.as_str())];
    assert_eq!(told, expected.map(|(fd, end)| (fd, end.to_owned())));
}

#[test]
fn the_kernels_table_replaces_what_was_known_and_keeps_its_ages() {
    let mut tables = Tables::default();
    for (fd, file) in [(0, 10), (1, 11), (5_000, 12)] {
        let record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: 1,
            file,
            time_ns: 7,
            ..OpenRecord::new_zeroed()
        };
        tables.apply(Changed::Opened(&record), &mut ());
    }
    let (mut all, mut names) = (Held::default(), Names::default());
    all.take(&held(0, 10), &mut names);
    all.take(&held(2, 13), &mut names);
    let table = all
        .of(1, 9)
        .unwrap()
        .applied_to(tables.table(1), 40, 45)
        .unwrap();
    let slots: Vec<_> = table
        .slots()
        .map(|(fd, slot)| (fd, slot.file, slot.since_ns))
        .collect();
    // What lies beyond the part that is told stays as it was known.
    assert_eq!(slots, [(0, 10, 7), (2, 13, 40), (5_000, 12, 7)]);
    let unseen = all.of(1, 9).unwrap().applied_to(None, 40, 0).unwrap();
    assert!(unseen.slots().all(|(_, slot)| slot.since_ns == 0));
    // Of a process that was started after the last look nothing is older than itself.
    for (looked_ns, started_ns, wanted) in [(40, 45, 45), (40, 39, 0), (0, 45, 0)] {
        let held = all.of(1, 9).unwrap();
        let new = held.applied_to(None, looked_ns, started_ns).unwrap();
        assert!(new.slots().all(|(_, slot)| slot.since_ns == wanted));
        assert_eq!(new.made_ns, wanted);
    }
}

#[test]
fn a_second_walk_replaces_the_first_and_names_are_given_back() {
    let (mut all, mut names) = (Held::default(), Names::default());
    for fd in [0, 1, 0] {
        all.take(&held(fd, 5), &mut names);
    }
    assert_eq!(all.of(1, 9).unwrap().slots.len(), 1);
    all.forget_before(60, &mut names);
    assert!(all.of(1, 9).is_some());
    all.forget_before(KEPT_NS + 50, &mut names);
    assert!(all.of(1, 9).is_none() && names.is_empty());
}

#[test]
fn a_table_is_told_for_one_alarm() {
    let (mut all, mut names) = (Held::default(), Names::default());
    all.take(&held(0, 5), &mut names);
    all.release(1, 8, &mut names);
    assert!(all.of(1, 9).is_some());
    all.release(1, 9, &mut names);
    assert!(all.of(1, 9).is_none() && names.is_empty());
    assert_eq!(all.slots, 0);
}

#[test]
fn the_newest_are_kept_and_no_more_than_there_is_room_for() {
    let (mut all, mut names) = (Held::default(), Names::default());
    for tid in 0..1_000 {
        let mut record = held(0, 5);
        (record.slot.tid, record.slot.time_ns) = (tid, u64::from(tid));
        all.take(&record, &mut names);
    }
    assert_eq!((all.tables.len(), all.slots), (TABLES_MAX, TABLES_MAX));
    assert!(all.of(1, 999).is_some() && all.of(1, 900).is_none());
    for tid in 1_000..1_040 {
        for fd in 0..HELD_MAX {
            let mut record = held(fd, 5);
            (record.slot.tid, record.slot.time_ns) = (tid, u64::from(tid));
            all.take(&record, &mut names);
        }
    }
    assert!(all.slots <= SLOTS_MAX, "{}", all.slots);
    assert_eq!(all.of(1, 1_039).unwrap().slots.len(), HELD_MAX as usize);
    all.forget_before(u64::MAX, &mut names);
    assert_eq!((all.slots, names.len()), (0, 0));
}

#[test]
fn sockets_alone_add_their_ends_to_what_is_known_and_nothing_else() {
    let (mut all, mut names) = (Held::default(), Names::default());
    let remote = ([10, 0, 0, 3], 5432);
    for mut record in [tcp(1, 50_001, Some(remote)), tcp(2, 50_002, Some(remote))] {
        record.slot.flags = 0;
        all.take(&record, &mut names);
    }
    let held = all.of(1, 9).unwrap();
    assert!(held.applied_to(None, 40, 0).is_none());
    // The second one has been closed meanwhile.
    let mut table = Table::default();
    let slot = Slot {
        file: 101,
        ..Slot::default()
    };
    assert!(table.put(1, slot, 0, &mut names).is_ok());
    let ends: Vec<_> = held.ends(&table).into_iter().collect();
    assert_eq!(ends, [(1, b"10.0.0.3:5432".to_vec())]);
}

fn states(records: &[HeldRecord]) -> Vec<(u32, &'static str, bool)> {
    let (mut all, mut names) = (Held::default(), Names::default());
    for record in records {
        all.take(record, &mut names);
    }
    let held = all.of(1, 9).unwrap();
    let states = held.states(&held.applied_to(None, 0, 0).unwrap());
    let mut states: Vec<_> = states
        .into_iter()
        .map(|(fd, connection)| (fd, connection.state.name(), connection.is_client))
        .collect();
    states.sort_unstable();
    states
}

#[test]
fn connections_have_a_state_and_a_side() {
    let in_state = |state: u8, mut record: HeldRecord| {
        record.state = state;
        record
    };
    let client = ([10, 0, 0, 9], 40_000);
    let mut hung_up = in_state(1, unix(6, b"/run/x.sock"));
    hung_up.shutdown = SHUTDOWN_MASK;
    let told = states(&[
        in_state(10, tcp(0, 8080, None)),
        in_state(1, tcp(1, 8080, Some(client))),
        in_state(8, tcp(2, 8080, Some(client))),
        in_state(1, tcp(3, 50_001, Some(([10, 0, 0, 3], 5432)))),
        in_state(10, unix(4, b"/run/x.sock")),
        in_state(1, unix(5, b"/run/x.sock")),
        hung_up,
        in_state(1, unix(7, b"/run/elsewhere.sock")),
        // An older recording does not know.
        tcp(8, 8080, Some(client)),
    ]);
    let expected = [
        (0, "listen", false),
        (1, "established", true),
        (2, "close-wait", true),
        (3, "established", false),
        (4, "listen", true),
        (5, "established", true),
        (6, "close-wait", true),
        (7, "established", false),
    ];
    assert_eq!(told, expected);
}
