use fdtrace_common::file::FileRecord;
use zerocopy::FromZeros;

use super::*;

fn pipe(tgid: u32, fd: u32, inode: u64, flags: u32) -> OpenFile {
    let record = FileRecord {
        magic: 0x5049_5045,
        mode: 0o010_600,
        tgid,
        tid: tgid,
        fd,
        inode,
        flags,
        ..FileRecord::new_zeroed()
    };
    OpenFile::new(&record, b"")
}

#[test]
fn the_other_end_of_a_pipe_has_the_other_mode() {
    let files = [pipe(1, 3, 70, 0), pipe(2, 4, 70, 1), pipe(2, 5, 71, 1)];
    let found = peers(&files, &files);
    assert_eq!(found[0].named, [Peer { pid: 2, fd: 4 }]);
    assert_eq!(found[1].named, [Peer { pid: 1, fd: 3 }]);
    assert_eq!(found[2], Peers::default(), "nobody reads from it");
}

#[test]
fn all_that_have_the_other_end_are_found_in_scope_or_not() {
    let reader = [pipe(1, 3, 70, 0)];
    let all = [
        pipe(1, 3, 70, 0),
        pipe(2, 1, 70, 1),
        pipe(3, 1, 70, 1),
        pipe(4, 1, 70, 1),
    ];
    let found = peers(&reader, &all);
    let pids: Vec<_> = found[0].named.iter().map(|peer| peer.pid).collect();
    assert_eq!((pids, found[0].total), (vec![2, 3, 4], 3));
}

#[test]
fn many_other_ends_are_named_up_to_a_bound_and_counted() {
    let many = 1..=1_000_u32;
    let mut all: Vec<_> = many.map(|pid| pipe(pid, 1, 70, 1)).collect();
    all.push(pipe(1, 0, 70, 0));
    let found = peers(&all[1_000..], &all);
    assert_eq!((found[0].named.len(), found[0].total), (PEERS_MAX, 1_000));
}

/// A FIFO can be open both ways; it is no other end of its own.
#[test]
fn an_fd_that_reads_and_writes_is_the_other_end_of_all_others() {
    let all = [
        pipe(1, 3, 70, 2),
        pipe(2, 4, 70, 1),
        pipe(3, 5, 70, 0),
        pipe(4, 6, 70, 2),
    ];
    let totals: Vec<_> = peers(&all, &all).iter().map(|peers| peers.total).collect();
    assert_eq!(totals, [3, 3, 3, 3]);
    let others: Vec<_> = peers(&all, &all)[0]
        .named
        .iter()
        .map(|peer| peer.pid)
        .collect();
    assert_eq!(others, [3, 2, 4]);
}

fn bound(tgid: u32, fd: u32, inode: u64, peer_inode: u64) -> OpenFile {
    let record = FileRecord {
        magic: 0x534f_434b,
        mode: 0o140_777,
        family: 1,
        tgid,
        tid: tgid,
        fd,
        inode,
        peer_inode,
        ..FileRecord::new_zeroed()
    };
    OpenFile::new(&record, b"")
}

#[test]
fn a_unix_socket_that_was_inherited_has_several_other_ends() {
    let all = [
        bound(1, 3, 80, 81),
        bound(2, 4, 81, 80),
        bound(3, 4, 81, 80),
    ];
    let found = peers(&all, &all);
    let pids: Vec<_> = found[0].named.iter().map(|peer| peer.pid).collect();
    assert_eq!((pids, found[0].total), (vec![2, 3], 2));
    assert_eq!(found[1].named, [Peer { pid: 1, fd: 3 }]);
}

fn task(tgid: u32, used: u32, soft: u64) -> Task {
    Task {
        files: u64::from(tgid),
        tgid,
        tid: tgid,
        soft,
        hard: soft,
        used: Some(used),
        comm: b"x".to_vec(),
    }
}

#[test]
fn tables_are_summed_up_the_fullest_first() {
    let tasks = [task(1, 2, 1024), task(2, 60, 64), task(3, 0, 64)];
    let files = [pipe(1, 3, 70, 0), pipe(1, 4, 70, 1), pipe(2, 5, 71, 1)];
    let usages = usage(&tasks, &kinds(&files));
    let order: Vec<_> = usages.iter().map(|usage| usage.pid).collect();
    assert_eq!(order, [2, 1, 3]);
    assert_eq!(
        (usages[0].used, usages[0].open, usages[0].percent()),
        (Some(60), 1, Some(93))
    );
    assert_eq!(usages[1].kinds, BTreeMap::from([(Kind::Pipe, 2)]));
    assert_eq!((usages[2].open, usages[2].uid), (0, None));
}

/// What was asked for is a part of the table, and no other table.
#[test]
fn a_choice_of_files_leaves_the_tables_own_numbers() {
    let files = [pipe(1, 3, 70, 0), pipe(1, 4, 70, 1), pipe(2, 5, 71, 1)];
    let mut tables = kinds(&files);
    keep_chosen(&mut tables, &files[1..2]);
    let usages = usage(&[task(1, 2, 1024), task(2, 9, 1024)], &tables);
    let told: Vec<_> = usages
        .iter()
        .map(|usage| (usage.pid, usage.open, usage.kinds.get(&Kind::Pipe).copied()))
        .collect();
    assert_eq!(told, [(2, 1, None), (1, 2, Some(1))]);
}
