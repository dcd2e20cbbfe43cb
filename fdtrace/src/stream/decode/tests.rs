use fdtrace_common::alarm::{CGROUP_DEPTH, EXE_DEPTH};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;

const SIZE: usize = size_of::<AlarmRecord>();

fn record() -> AlarmRecord {
    AlarmRecord {
        kind: 1,
        flags: 1,
        time_ns: 1,
        key: StormKey {
            files: 2,
            started_ns: 3,
            tgid: 4,
            call: 5,
            hook: 6,
            errno: 7,
            limit: 8,
            cpu: 0,
        },
        failures: 9,
        cgroup_id: 10,
        soft: 11,
        hard: u64::MAX,
        arguments: [13, 14, 15],
        cpu: 16,
        tid: 17,
        uid: 18,
        used: 19,
        open: 20,
        max_fds: 64,
        exe_truncated: 0,
        cgroup_truncated: 0,
        comm: *b"python3\0\0\0\0\0\0\0\0\0",
        exe: components(&[b"python3", b"bin", b"usr"]),
        cgroup: components(&[b"web.service", b"system.slice"]),
    }
}

/// Names from the last to the first, as the kernel programs leave them.
fn components<const DEPTH: usize>(names: &[&[u8]]) -> Path<DEPTH> {
    let mut path = [[0; COMPONENT_SIZE]; DEPTH];
    for (place, name) in path.iter_mut().zip(names) {
        place[..name.len()].copy_from_slice(name);
    }
    path
}

fn decoded(record: &AlarmRecord) -> Alarm {
    Alarm::decode(record.as_bytes()).unwrap()
}

#[test]
fn every_field_arrives() {
    let expected = Alarm {
        time_ns: 1,
        key: record().key,
        failures: 9,
        cpu: 16,
        tid: 17,
        uid: 18,
        soft: 11,
        hard: u64::MAX,
        arguments: [13, 14, 15],
        used: Some(19),
        open: Some(20),
        max_fds: 64,
        by_supervisor: true,
        comm: b"python3".to_vec(),
        exe: Some(b"/usr/bin/python3".to_vec()),
        cgroup: b"/system.slice/web.service".to_vec(),
    };
    assert_eq!(decoded(&record()), expected);
}

#[test]
fn any_other_size_is_refused() {
    let bytes = record();
    let bytes = bytes.as_bytes();
    let wrong = |got| {
        Err(WrongSize {
            got,
            expected: SIZE,
        })
    };
    assert_eq!(Alarm::decode(&bytes[..SIZE - 1]), wrong(SIZE - 1));
    assert_eq!(Alarm::decode(&[]), wrong(0));
    let longer = [bytes, &[0]].concat();
    assert_eq!(Alarm::decode(&longer), wrong(SIZE + 1));
    let text = Alarm::decode(&[]).unwrap_err().to_string();
    assert_eq!(
        text,
        "a record of 0 bytes where 4256 were expected: kernel programs and fdtrace differ"
    );
}

#[test]
fn a_count_the_kernel_has_not_made_is_unknown() {
    let mut record = record();
    (record.used, record.open) = (UNKNOWN, UNKNOWN);
    let alarm = decoded(&record);
    assert_eq!((alarm.used, alarm.open), (None, None));
    (record.used, record.open) = (0, UNKNOWN - 1);
    let alarm = decoded(&record);
    assert_eq!((alarm.used, alarm.open), (Some(0), Some(UNKNOWN - 1)));
}

#[test]
fn a_name_may_fill_its_room() {
    let mut record = record();
    record.comm = *b"0123456789abcdef";
    assert_eq!(decoded(&record).comm, b"0123456789abcdef");
    record.comm = [0; 16];
    assert_eq!(decoded(&record).comm, b"");
    record.comm = *b"a\0bcdefghijklmno";
    assert_eq!(decoded(&record).comm, b"a");
}

#[test]
fn paths_are_put_together() {
    let plain = |names: &[&[u8]]| path::<EXE_DEPTH>(&components(names), 0);
    assert_eq!(plain(&[]), b"/");
    assert_eq!(plain(&[b"init"]), b"/init");
    assert_eq!(plain(&[b"c", b"b", b"a"]), b"/a/b/c");
    // A mount that is crossed leaves an empty place, and so does a name that cannot be read.
    assert_eq!(plain(&[b"c", b"", b"", b"a", b""]), b"/a/c");
    assert_eq!(plain(&[b"\xff\x1b\n", b"x/y"]), b"/x/y/\xff\x1b\n");
}

#[test]
fn what_was_cut_says_so() {
    let longest = [b'x'; COMPONENT_SIZE - 1];
    let whole = [b'y'; COMPONENT_SIZE - 2];
    let found = path::<CGROUP_DEPTH>(&components(&[&longest, &whole]), 0);
    let expected = [b"/", &whole[..], b"/", &longest[..], "…".as_bytes()].concat();
    assert_eq!(found, expected);
    let deep = path::<CGROUP_DEPTH>(&components(&[b"b", b"a"]), 1);
    assert_eq!(deep, "…/a/b".as_bytes());
    assert_eq!(path::<CGROUP_DEPTH>(&components(&[]), 1), "…".as_bytes());
    // A component without its NUL, which no kernel program writes.
    let unending = path::<CGROUP_DEPTH>(&components(&[&[b'z'; COMPONENT_SIZE]]), 0);
    assert_eq!(unending.len(), 1 + COMPONENT_SIZE);
}

#[test]
fn kernel_threads_have_no_program() {
    let mut record = record();
    record.exe = components(&[]);
    assert_eq!(decoded(&record).exe, None);
    record.cgroup = components(&[]);
    assert_eq!(decoded(&record).cgroup, b"/");
}

fn task(tgid: u32, used: u32) -> TaskRecord {
    TaskRecord {
        files: 1,
        soft: 1024,
        hard: 4096,
        tgid,
        tid: tgid + 1,
        used,
        max_fds: 64,
        comm: *b"nginx\0junk\0\0\0\0\0\0",
    }
}

#[test]
fn a_census_is_tasks_one_after_the_other() {
    let bytes = [task(1, 60), task(7, UNKNOWN)]
        .map(|task| task.as_bytes().to_vec())
        .concat();
    let expected = |tgid, used| Task {
        files: 1,
        tgid,
        tid: tgid + 1,
        soft: 1024,
        hard: 4096,
        used,
        comm: b"nginx".to_vec(),
    };
    let tasks = Task::decode_all(&bytes);
    assert_eq!(tasks, Ok(vec![expected(1, Some(60)), expected(7, None)]));
    assert_eq!(Task::decode_all(&[]), Ok(Vec::new()));
    let wrong = WrongSize {
        got: 55,
        expected: 56,
    };
    assert_eq!(Task::decode_all(&bytes[..111]), Err(wrong));
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2 * SIZE)) {
        prop_assert_eq!(Alarm::decode(&bytes).is_ok(), bytes.len() == SIZE);
        let whole = bytes.len().is_multiple_of(size_of::<TaskRecord>());
        prop_assert_eq!(Task::decode_all(&bytes).is_ok(), whole);
    }

    #[test]
    fn a_record_of_any_bytes_is_decoded(bytes in prop::collection::vec(any::<u8>(), SIZE)) {
        let alarm = Alarm::decode(&bytes).unwrap();
        prop_assert!(alarm.comm.len() <= 16);
        prop_assert!(!alarm.cgroup.is_empty() && !alarm.cgroup.contains(&0));
        let mut record = AlarmRecord::new_zeroed();
        record.as_mut_bytes().copy_from_slice(&bytes);
        prop_assert_eq!(record.key, alarm.key);
    }
}

#[test]
fn a_table_is_listed_once_for_each_process() {
    let task = |tgid, tid, files| Task {
        files,
        tgid,
        tid,
        soft: 64,
        hard: 64,
        used: Some(3),
        comm: b"x".to_vec(),
    };
    let mut tasks = vec![
        // The leader, 10, has exited.
        task(10, 11, 1),
        task(10, 12, 1),
        task(10, 13, 1),
        // Threads that have left their leader's table, two of them for the same one.
        task(20, 20, 2),
        task(20, 21, 3),
        task(20, 22, 3),
        // A process that shares the table of another.
        task(30, 30, 2),
    ];
    Task::one_a_table(&mut tasks);
    let left: Vec<_> = tasks.iter().map(|task| task.tid).collect();
    assert_eq!(left, [11, 20, 21, 30]);
}
