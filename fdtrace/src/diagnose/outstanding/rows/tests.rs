use super::*;
use crate::{engine::table::OpenFd, enrich::stacks::Frame};

/// A new copy each time, as of stacks that were taken in two processes.
fn stack(function: &str) -> Arc<Stack> {
    let frame = Frame {
        function: Some(function.to_owned()),
        ..Frame::default()
    };
    Arc::new(Stack {
        frames: vec![frame],
        ..Stack::default()
    })
}

/// The sequence says the function: hundreds are functions of their own.
fn stack_of(sequence: Sequence) -> Option<Arc<Stack>> {
    match sequence / 100 {
        0 => None,
        function => Some(stack(&format!("leak_{function}"))),
    }
}

fn holder(count: u32, oldest_ns: u64, newest_ns: u64) -> Holder {
    Holder {
        kind: Kind::File,
        target: Some(b"a.log".to_vec()),
        states: Vec::new(),
        targets: 1,
        count,
        inodes: 1,
        inherited: 0,
        oldest_ns: Some(oldest_ns),
        newest_ns: Some(newest_ns),
        example: (0, 7),
        files: Vec::new(),
        folders: None,
        openers: Vec::new(),
    }
}

/// A group of one fd for each of these stacks, opened one after the other.
fn group(pid: u32, sequences: &[Sequence]) -> Group {
    let opened = (0..).zip(sequences).map(|(fd, sequence)| Opened {
        state: None,
        sequence: *sequence,
        open: OpenFd {
            fd,
            inode: 7,
            since_ns: 10 + u64::from(fd),
            ..OpenFd::default()
        },
        target: 0,
    });
    let count = u32::try_from(sequences.len()).unwrap();
    Group {
        pid,
        comm: b"x".to_vec(),
        holder: holder(count, 10, 9 + u64::from(count)),
        opened: opened.collect(),
    }
}

/// Fds of which no stack is known.
fn without_stack(pid: u32, holder: Holder) -> Group {
    Group {
        holder,
        ..group(pid, &[])
    }
}

fn block(rows: &mut Rows, groups: Vec<Group>) -> Block {
    let counts = groups.iter().map(|group| u64::from(group.holder.count));
    let fds = counts.sum();
    let found = Found {
        groups,
        fds,
        ..Found::default()
    };
    rows.block(&found, stack_of)
}

type Told = (u32, String, (Option<u64>, Option<u64>), Option<i64>);

/// Count, function, oldest and newest, growth.
fn told(block: &Block) -> Vec<Told> {
    let told = block.rows.iter().map(|row| {
        let stack = row.stack.as_ref().and_then(|stack| stack.caller());
        let function = stack.map(ToString::to_string).unwrap_or_default();
        let ages = (row.holder.oldest_ns, row.holder.newest_ns);
        (row.holder.count, function, ages, row.grown_by)
    });
    told.collect()
}

#[test]
fn two_code_paths_to_one_target_are_two_rows_each_with_its_own_figures() {
    let mut rows = Rows::new(10, Detail::Full);
    let first = block(&mut rows, vec![group(5, &[100, 200, 101, 102, 201])]);
    let ages = |oldest, newest| (Some(oldest), Some(newest));
    assert_eq!(
        told(&first),
        [
            (3, "leak_1".to_owned(), ages(10, 13), None),
            (2, "leak_2".to_owned(), ages(11, 14), None),
        ]
    );
    let more = group(5, &[100, 200, 101, 102, 201, 202, 203, 300]);
    assert_eq!(
        told(&block(&mut rows, vec![more])),
        [
            (4, "leak_2".to_owned(), ages(11, 16), Some(2)),
            (3, "leak_1".to_owned(), ages(10, 13), Some(0)),
            (1, "leak_3".to_owned(), ages(17, 17), Some(1)),
        ]
    );
}

#[test]
fn fds_without_a_stack_are_one_row_also_those_whose_stack_is_not_known_any_more() {
    let mut rows = Rows::new(10, Detail::Full);
    let groups = vec![
        without_stack(5, holder(4, 3, 8)),
        group(5, &[1, 100, 2]),
        without_stack(6, holder(2, 4, 5)),
    ];
    let ages = |oldest, newest| (Some(oldest), Some(newest));
    let block = block(&mut rows, groups);
    assert_eq!(
        told(&block),
        [
            (6, String::new(), ages(3, 12), None),
            (2, String::new(), ages(4, 5), None),
            (1, "leak_1".to_owned(), ages(11, 11), None),
        ]
    );
    let inodes: Vec<_> = block.rows.iter().map(|row| row.holder.inodes).collect();
    assert_eq!(inodes, [1, 1, 1]);
}

#[test]
fn the_same_functions_of_two_processes_are_two_rows() {
    let mut rows = Rows::new(10, Detail::Full);
    let block = block(&mut rows, vec![group(5, &[100]), group(6, &[100, 101])]);
    let pids: Vec<_> = block.rows.iter().map(|row| row.pid).collect();
    assert_eq!(pids, [6, 5]);
}

/// As many as anybody wants to read, and as many as are compared; what is left out is not made up.
#[test]
fn rows_are_bounded_and_growth_is_not_made_up() {
    let mut rows = Rows::new(2, Detail::Full);
    let many = |from: u64| {
        let sequences = (from..from + 3_000).map(|function| function * 100);
        group(5, &sequences.collect::<Vec<_>>())
    };
    let first = block(&mut rows, vec![many(1)]);
    assert_eq!((first.rows.len(), first.fds), (2, 3_000));
    let before = rows.before.as_ref().unwrap();
    assert_eq!((before.counts.len(), before.is_cut), (kept(2), true));
    let second = block(&mut rows, vec![many(9_000)]);
    assert_eq!(told(&second)[0].3, None, "nobody knows how many there were");
    let third = block(&mut rows, vec![group(5, &[100, 101])]);
    assert_eq!(told(&third)[0].3, None);
    let fourth = block(&mut rows, vec![group(5, &[100, 200])]);
    let grown: Vec<_> = told(&fourth).into_iter().map(|row| row.3).collect();
    assert_eq!(grown, [Some(-1), Some(1)]);
}

/// The first of many is not the only one: a large group that falls apart makes room for others.
#[test]
fn the_largest_rows_are_shown_and_not_the_largest_groups() {
    let mut rows = Rows::new(1, Detail::Full);
    let fallen = group(5, &[100, 200, 300, 400]);
    let block = block(&mut rows, vec![fallen, group(6, &[100, 101])]);
    assert_eq!((block.rows[0].pid, block.rows[0].holder.count), (6, 2));
}

/// Whoever reads text sees four functions; a row for each of those that are hidden would be the same row again.
#[test]
fn what_looks_alike_is_one_row_and_nothing_is_lost() {
    let deep = |sequence: Sequence| {
        let named = |function: String| Frame {
            function: Some(function),
            ..Frame::default()
        };
        let shown = ["leak", "load", "handle", "serve"].map(str::to_owned);
        let hidden = format!("worker_{}", sequence / 100);
        Some(Arc::new(Stack {
            frames: shown.into_iter().chain([hidden]).map(named).collect(),
            ..Stack::default()
        }))
    };
    let counts = |detail, sequences: &[Sequence]| {
        let mut rows = Rows::new(10, detail);
        let found = |sequences: &[Sequence]| Found {
            groups: vec![group(5, sequences)],
            ..Found::default()
        };
        rows.block(&found(&sequences[1..]), deep);
        let block = rows.block(&found(sequences), deep);
        let counts = block.rows.iter();
        counts
            .map(|row| (row.holder.count, row.grown_by))
            .collect::<Vec<_>>()
    };
    let sequences = [100, 100, 200, 300, 200];
    assert_eq!(counts(Detail::Shown, &sequences), [(5, Some(1))]);
    assert_eq!(
        counts(Detail::Full, &sequences),
        [(2, Some(1)), (2, Some(0)), (1, Some(0))]
    );
}

/// Sockets of one process, kind and code path, one fd each; `None`: nobody knows yet where it leads to.
fn sockets(end: Option<&str>, sequences: &[Sequence]) -> Group {
    let mut group = group(5, sequences);
    group.holder.kind = Kind::Tcp;
    group.holder.target = end.map(|end| end.as_bytes().to_vec());
    group
}

type Ended = (u32, Option<String>, u32, Option<i64>);

/// Count, end, how many without one, growth.
fn ended(block: &Block) -> Vec<Ended> {
    let text = |target: &Vec<u8>| String::from_utf8_lossy(target).into_owned();
    let rows = block.rows.iter();
    rows.map(|row| {
        let target = row.holder.target.as_ref().map(text);
        (row.holder.count, target, row.endless, row.grown_by)
    })
    .collect()
}

#[test]
fn a_row_does_not_split_while_an_end_is_not_known() {
    let mut rows = Rows::new(10, Detail::Full);
    let first = block(&mut rows, vec![sockets(None, &[100, 100])]);
    assert_eq!(ended(&first), [(2, None, 0, None)]);
    let end = Some("10.0.0.1:80".to_owned());
    let groups = vec![
        sockets(Some("10.0.0.1:80"), &[100, 100]),
        sockets(None, &[100]),
    ];
    let second = block(&mut rows, groups);
    assert_eq!(ended(&second), [(3, end.clone(), 1, Some(1))]);
    let third = vec![sockets(Some("10.0.0.1:80"), &[100, 100, 100])];
    assert_eq!(ended(&block(&mut rows, third)), [(3, end, 0, Some(0))]);
}

#[test]
fn an_end_is_not_made_up_for_sockets_of_another_path_or_of_several_ends() {
    let mut rows = Rows::new(10, Detail::Full);
    let other_path = vec![
        sockets(Some("10.0.0.1:80"), &[100, 100]),
        sockets(None, &[200]),
    ];
    let counts = |block: &Block| {
        let rows = block.rows.iter();
        rows.map(|row| (row.holder.count, row.endless))
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&block(&mut rows, other_path)), [(2, 0), (1, 0)]);
    let several = vec![
        sockets(Some("10.0.0.1:80"), &[100, 100, 100]),
        sockets(Some("10.0.0.2:80"), &[100, 100]),
        sockets(None, &[100]),
    ];
    assert_eq!(counts(&block(&mut rows, several)), [(3, 0), (2, 0), (1, 0)]);
}
