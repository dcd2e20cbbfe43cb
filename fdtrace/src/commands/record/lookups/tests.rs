use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
};

use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    kind::Kind,
    record::{RECORD_BOUND, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{
    enrich::{
        lookup::{Lookup, ThisHost},
        names::Named,
    },
    model::Model,
    stream::record::Changed,
};

const SECOND: u64 = 1_000_000_000;

/// A table of this process, with one file of its own as often as is wanted.
fn model(file: &fs::File, fds: u32) -> Model {
    let mut model = Model::default();
    let pid = std::process::id();
    let bound = ThreadRecord {
        kind: RECORD_BOUND,
        files: 1,
        tgid: pid,
        tid: pid,
        ..ThreadRecord::new_zeroed()
    };
    model.tables.apply(Changed::Bound(&bound), &mut ());
    let first = file.as_raw_fd().unsigned_abs();
    for fd in first..first + fds {
        let record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: 1,
            file: 7,
            tgid: pid,
            inode: file.metadata().unwrap().ino(),
            mode: 0o100_644,
            ..OpenRecord::new_zeroed()
        };
        model.tables.apply(Changed::Opened(&record), &mut ());
    }
    let slot = model.tables.table(1).unwrap().get(first).unwrap();
    assert_eq!(slot.kind, Kind::File);
    model
}

fn answered(lookups: &mut Lookups, now_ns: u64) -> (Vec<Looked>, Option<u64>) {
    lookups.mark(&mut Stacks::elsewhere(), now_ns);
    let (notes, until) = lookups.last_notes();
    let looked = notes.into_iter().map(|note| match note {
        Note::Looked(looked) => looked,
        other => panic!("{other:?}"),
    });
    (looked.collect(), until)
}

fn own_executable() -> (fs::File, Text) {
    let path = std::env::current_exe().unwrap();
    let file = fs::File::open(&path).unwrap();
    (file, Text(path.into_os_string().into_encoded_bytes()))
}

#[test]
fn files_are_asked_about_once_and_their_processes_too() {
    let (file, path) = own_executable();
    let model = model(&file, 3);
    let mut lookups = Lookups::start().unwrap();
    lookups.look(&model, SECOND);
    let (looked, until) = answered(&mut lookups, SECOND);
    assert_eq!(until, Some(SECOND));
    let pid = std::process::id();
    let [processes, paths] = &looked[..] else {
        panic!("{looked:?}");
    };
    let [process] = &processes.processes[..] else {
        panic!("{processes:?}");
    };
    assert_eq!(
        (process.pid, process.uid),
        (pid, ThisHost::default().user(pid))
    );
    let file = (pid, file.metadata().unwrap().ino());
    let expected = LookedPath {
        path,
        files: vec![file],
    };
    assert_eq!(paths.paths, [expected]);
    lookups.look(&model, 2 * SECOND);
    assert_eq!(
        answered(&mut lookups, 2 * SECOND),
        (Vec::new(), Some(2 * SECOND))
    );
    assert_eq!(lookups.all(&model).len(), 2);
}

#[test]
fn a_change_is_told_when_it_has_been_asked_for_again() {
    let (file, _) = own_executable();
    let model = model(&file, 1);
    let mut lookups = Lookups::start().unwrap();
    lookups.look(&model, SECOND);
    answered(&mut lookups, SECOND);
    let key = (std::process::id(), file.metadata().unwrap().ino());
    lookups.files.get_mut(&key).unwrap().answer = Some(Arc::from(&b"/renamed"[..]));
    let later = SECOND + FRESH.ns();
    lookups.look(&model, later);
    assert!(answered(&mut lookups, later).0.is_empty());
    lookups.look(&model, later + 1);
    let (looked, _) = answered(&mut lookups, later + 1);
    assert_eq!(looked.len(), 1, "{looked:?}");
}

#[test]
fn who_has_ended_is_still_known() {
    let mut lookups = Lookups::start().unwrap();
    let process = |uid, ended_ns| LookedProcess {
        select: None,
        ended_ns,
        pid: 7,
        uid,
        cgroup: Some(Text(b"/web".to_vec())),
        named: Named::default(),
        lineage: None,
    };
    lookups.processes.insert(7, Known::default());
    let mut take = |process| lookups.take(vec![Answer::Process(Box::new(process))]).0;
    assert_eq!(take(process(Some(33), None)).len(), 1);
    assert_eq!(take(process(None, None)), []);
    // That it has ended is news, and when that was found out first.
    let [Note::Looked(looked)] = &*take(process(None, Some(5))) else {
        panic!("not told that it has ended");
    };
    assert_eq!(looked.processes, [process(Some(33), Some(5))]);
    assert_eq!(take(process(None, Some(6))), []);
}

#[test]
fn memory_is_bounded() {
    let (file, _) = own_executable();
    let model = model(&file, 1);
    let mut lookups = Lookups::start().unwrap();
    lookups.look(&model, SECOND);
    answered(&mut lookups, SECOND);
    // Those who have no thread in the model are gone.
    for inode in 0..KEPT as u64 {
        lookups.ask_file(1, 0, inode, SECOND);
        lookups.waiting = 0;
    }
    assert!(lookups.files.len() <= KEPT);
    lookups.forget(&model);
    assert_eq!(lookups.files.len(), 1);
}

/// Thousands of short processes an hour are none of those that are there.
#[test]
fn processes_that_are_gone_are_forgotten() {
    let (file, _) = own_executable();
    let model = model(&file, 1);
    let mut lookups = Lookups::start().unwrap();
    lookups.look(&model, SECOND);
    answered(&mut lookups, SECOND);
    // Numbers beyond the largest pid_max.
    for pid in (1 << 23..).take(10 * FEW) {
        lookups.ask_file(pid, 0, 1, SECOND);
        lookups.ask_process(pid, None, AskedSelect::default(), SECOND);
        lookups.waiting = 0;
        lookups.forget(&model);
        assert!(lookups.files.len() <= FEW + 1 && lookups.processes.len() <= FEW + 1);
    }
    let own = std::process::id();
    assert!(lookups.processes.contains_key(&own));
    assert!(lookups.files.keys().any(|(pid, _)| *pid == own));
}

#[test]
fn no_more_is_asked_than_can_wait() {
    let mut lookups = Lookups::start().unwrap();
    for inode in 0..2 * WAITING as u64 {
        lookups.ask_file(0, 0, inode, SECOND);
    }
    assert_eq!(lookups.waiting, WAITING);
    assert_eq!(lookups.files.len(), WAITING);
    let (looked, until) = answered(&mut lookups, SECOND);
    assert_eq!((looked.len(), until, lookups.waiting), (0, Some(SECOND), 0));
}

#[test]
fn a_path_is_written_once_for_all_who_have_it() {
    let null: Arc<[u8]> = Arc::from(&b"/dev/null"[..]);
    let other: Arc<[u8]> = Arc::from(&b"/a"[..]);
    let files = vec![(Arc::clone(&null), (2, 4)), (other, (1, 9)), (null, (1, 4))];
    let notes = notes(Vec::new(), files);
    let [Note::Looked(looked)] = &notes[..] else {
        panic!("{notes:?}");
    };
    let paths: Vec<_> = looked.paths.iter().map(|path| &path.files[..]).collect();
    assert_eq!(paths, [&[(1, 9)][..], &[(1, 4), (2, 4)]]);
}
