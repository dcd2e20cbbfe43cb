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
    let found = peers(&files);
    assert_eq!(found[0], Some(Peer { pid: 2, fd: 4 }));
    assert_eq!(found[1], Some(Peer { pid: 1, fd: 3 }));
    assert_eq!(found[2], None, "nobody reads from it");
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
    assert_eq!(usages[2].open, 0);
}
