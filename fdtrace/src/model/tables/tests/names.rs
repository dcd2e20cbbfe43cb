//! Whom a change is of where nothing but looks tells of it.

use super::*;

const TABLE: u64 = 4_096;

/// A look at one process with one fd; its changes.
fn look(tables: &mut Tables, comm: Option<&[u8]>) -> Vec<Change> {
    let mut pass = tables.begin_pass();
    if let Some(comm) = comm {
        for tid in [7, 8] {
            let mut thread = ThreadRecord {
                kind: RECORD_BOUND,
                files: TABLE,
                tgid: 7,
                tid,
                started_ns: 5,
                ..ThreadRecord::new_zeroed()
            };
            let comm = if tid == 7 { comm } else { b"worker" };
            thread.comm[..comm.len()].copy_from_slice(comm);
            pass.thread(thread);
        }
        let slot = OpenRecord {
            kind: RECORD_SEEN,
            fd: 3,
            files: TABLE,
            file: 16,
            tgid: 7,
            tid: 7,
            ..OpenRecord::new_zeroed()
        };
        pass.slot(tables, &slot);
    }
    let mut changes = Vec::new();
    tables.end_pass(pass, Purpose::Look, &mut changes);
    changes
}

fn comm(change: &Change) -> &[u8] {
    let end = change.comm.iter().position(|byte| *byte == 0).unwrap();
    &change.comm[..end]
}

#[test]
fn what_an_ended_process_closed_has_the_name_of_the_last_look() {
    let mut tables = model();
    let opened = look(&mut tables, Some(b"sh"));
    assert_eq!((opened.len(), opened[0].op), (1, Op::Open));
    assert_eq!(comm(&opened[0]), b"sh");
    // It has executed another program.
    assert_eq!(look(&mut tables, Some(b"java")), []);
    let closed = look(&mut tables, None);
    assert_eq!((closed.len(), closed[0].op), (1, Op::CloseExit));
    assert_eq!((closed[0].tgid, comm(&closed[0])), (7, &b"java"[..]));
}
