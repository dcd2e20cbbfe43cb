//! All tables as they are now, in the form in which the iterators would show them: what a recording that
//! begins in the middle begins with.

use fdtrace_common::{
    change::{INHERITED, OpenRecord, ThreadRecord},
    record::{RECORD_BOUND, RECORD_SEEN},
};
use zerocopy::FromZeros;

use super::Tables;

impl Tables {
    /// Every thread.
    pub fn snapshot_threads(&self) -> impl Iterator<Item = ThreadRecord> {
        self.threads.iter().map(|(tid, thread)| ThreadRecord {
            kind: RECORD_BOUND,
            files: thread.files,
            started_ns: thread.started_ns,
            tgid: thread.tgid,
            tid: *tid,
            comm: thread.comm,
            ..ThreadRecord::new_zeroed()
        })
    }

    /// Every slot, with what is known of it and no iterator could tell: since when, and from where.
    pub fn snapshot_slots(&self) -> impl Iterator<Item = OpenRecord> {
        let tables = self.by_address.iter();
        tables.flat_map(|(files, table)| {
            table.slots().map(|(fd, slot)| {
                let mut record = OpenRecord {
                    kind: RECORD_SEEN,
                    fd,
                    time_ns: slot.since_ns,
                    files: *files,
                    file: slot.file,
                    inode: slot.inode,
                    tgid: slot.tgid,
                    tid: slot.tid,
                    device: slot.device,
                    flags: if slot.is_inherited { INHERITED } else { 0 },
                    known_kind: slot.kind as u16 + 1,
                    ..OpenRecord::new_zeroed()
                };
                let name = self.names.get(slot.name);
                for (to, from) in record.name.iter_mut().zip(name) {
                    *to = *from;
                }
                record
            })
        })
    }
}
