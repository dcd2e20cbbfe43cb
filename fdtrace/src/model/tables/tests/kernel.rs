//! A kernel in a few lines: tables, threads and files as the real one has them, telling of each change
//! with the records that the hooks write. The reference that the model is compared with.

use std::collections::{BTreeMap, BTreeSet};

use fdtrace_common::{
    change::{
        BitsRecord, CloseRecord, CopyRecord, IN_SCOPE, OpenRecord, SlotsRecord, ThreadRecord, WORDS,
    },
    record::{
        RECORD_BOUND, RECORD_CLOSED, RECORD_COPIED, RECORD_COPIED_SLOTS, RECORD_EXECUTED,
        RECORD_EXITED, RECORD_OPENED, RECORD_REPLACED, RECORD_SEEN,
    },
};
use zerocopy::FromZeros;

use crate::stream::record::Changed;

/// The call number that stands for unshare and its like.
pub(super) const UNSHARE: u32 = 272;

/// A record that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Opened(OpenRecord),
    Closed(CloseRecord),
    Copied(CopyRecord),
    CopiedSlots(Box<SlotsRecord>),
    Executed(Box<BitsRecord>),
    Bound(ThreadRecord),
    Exited(ThreadRecord),
}

impl Told {
    pub(super) fn changed(&self) -> Changed<'_> {
        match self {
            Self::Opened(record) => Changed::Opened(record),
            Self::Closed(record) => Changed::Closed(record),
            Self::Copied(record) => Changed::Copied(record),
            Self::CopiedSlots(record) => Changed::CopiedSlots(record),
            Self::Executed(record) => Changed::Executed(record),
            Self::Bound(record) => Changed::Bound(record),
            Self::Exited(record) => Changed::Exited(record),
        }
    }

    /// Who has told it: a thread's own records keep their order whatever happens.
    pub(super) fn teller(&self) -> Option<u32> {
        match self {
            Self::Opened(record) => Some(record.tid),
            Self::Closed(record) => Some(record.tid),
            Self::Copied(record) => Some(record.tid),
            Self::CopiedSlots(_) => None,
            Self::Executed(record) => Some(record.tid),
            Self::Bound(record) => Some(record.creator),
            Self::Exited(record) => Some(record.tid),
        }
    }
}

/// One step; numbers pick among what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Open(usize),
    Close(usize, usize),
    Dup2(usize, usize, u32),
    Fork(usize),
    Thread(usize),
    Unshare(usize),
    Exec(usize, u64),
    Exit(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) tgid: u32,
    pub(super) files: u64,
}

/// The kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    pub(super) tables: BTreeMap<u64, BTreeMap<u32, u64>>,
    pub(super) tasks: BTreeMap<u32, Task>,
    pub(super) told: Vec<Told>,
    time_ns: u64,
    next_tid: u32,
}

impl Kernel {
    /// One process with one thread.
    pub(super) fn new() -> Self {
        let mut kernel = Self::default();
        kernel.tables.insert(0x1000, BTreeMap::from([(0, 0x10)]));
        kernel.tasks.insert(
            1,
            Task {
                tgid: 1,
                files: 0x1000,
            },
        );
        kernel.next_tid = 2;
        kernel
    }

    /// Memory is handed out again at once, as the kernel's allocator does.
    fn lowest_free(used: impl Iterator<Item = u64>, unit: u64) -> u64 {
        let used: BTreeSet<u64> = used.collect();
        (1..1_000_000)
            .map(|number| number * unit)
            .find(|address| !used.contains(address))
            .expect("not all numbers are used")
    }

    fn new_file(&self) -> u64 {
        let files = self.tables.values().flat_map(|table| table.values());
        Self::lowest_free(files.copied(), 0x10)
    }

    fn new_table(&self) -> u64 {
        Self::lowest_free(self.tables.keys().copied(), 0x1000)
    }

    fn pick(&self, which: usize) -> (u32, Task) {
        let index = which % self.tasks.len();
        let (tid, task) = self.tasks.iter().nth(index).expect("there is one");
        (*tid, *task)
    }

    fn now(&mut self) -> u64 {
        self.time_ns += 1;
        self.time_ns
    }

    fn open_record(&mut self, kind: u32, tid: u32, files: u64, fd: u32, file: u64) -> OpenRecord {
        OpenRecord {
            kind,
            fd,
            time_ns: self.now(),
            files,
            file,
            inode: file,
            tgid: tid,
            tid,
            flags: IN_SCOPE,
            ..OpenRecord::new_zeroed()
        }
    }

    /// Does a step, if it can be done.
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Open(who) => self.open(who),
            Step::Close(who, which) => self.close(who, which),
            Step::Dup2(who, which, to) => self.dup2(who, which, to),
            Step::Fork(who) => self.fork(who),
            Step::Thread(who) => self.thread(who),
            Step::Unshare(who) => self.unshare(who),
            Step::Exec(who, keep) => self.exec(who, keep),
            Step::Exit(who) => self.exit(who),
        }
    }

    fn open(&mut self, who: usize) {
        let (tid, task) = self.pick(who);
        let file = self.new_file();
        let table = &self.tables[&task.files];
        let fd = (0..1_000)
            .find(|fd| !table.contains_key(fd))
            .expect("a number");
        let record = self.open_record(RECORD_OPENED, tid, task.files, fd, file);
        self.told.push(Told::Opened(record));
        self.tables.entry(task.files).or_default().insert(fd, file);
    }

    fn close(&mut self, who: usize, which: usize) {
        let (tid, task) = self.pick(who);
        let table = self.tables.entry(task.files).or_default();
        if table.is_empty() {
            return;
        }
        let fd = *table.keys().nth(which % table.len()).expect("one");
        let file = table.remove(&fd).expect("it is there");
        let time_ns = self.now();
        self.told.push(Told::Closed(CloseRecord {
            kind: RECORD_CLOSED,
            fd,
            time_ns,
            files: task.files,
            file,
            tgid: task.tgid,
            tid,
            flags: IN_SCOPE,
            ..CloseRecord::new_zeroed()
        }));
    }

    fn dup2(&mut self, who: usize, which: usize, to: u32) {
        let (tid, task) = self.pick(who);
        let table = &self.tables[&task.files];
        if table.is_empty() {
            return;
        }
        let (from, file) = table.iter().nth(which % table.len()).expect("one");
        let (from, file) = (*from, *file);
        if from == to {
            return;
        }
        let replaced = table.get(&to).copied();
        let kind = if replaced.is_some() {
            RECORD_REPLACED
        } else {
            RECORD_OPENED
        };
        let mut record = self.open_record(kind, tid, task.files, to, file);
        record.replaced = replaced.unwrap_or(0);
        self.told.push(Told::Opened(record));
        self.tables.entry(task.files).or_default().insert(to, file);
    }

    fn copy(&mut self, tid: u32, task: Task, call: u32) -> u64 {
        let files = self.new_table();
        let table = self.tables[&task.files].clone();
        let time_ns = self.now();
        self.told.push(Told::Copied(CopyRecord {
            kind: RECORD_COPIED,
            flags: IN_SCOPE,
            time_ns,
            from: task.files,
            files,
            tgid: task.tgid,
            tid,
            call,
            uid: 0,
        }));
        let pages: BTreeSet<u32> = table.keys().map(|fd| fd / 64 * 64).collect();
        for first in pages {
            let mut record = SlotsRecord {
                kind: RECORD_COPIED_SLOTS,
                first,
                files,
                slots: [0; 64],
            };
            for (fd, file) in table.range(first..first + 64) {
                record.slots[(fd - first) as usize] = *file;
            }
            self.told.push(Told::CopiedSlots(Box::new(record)));
        }
        self.tables.insert(files, table);
        files
    }

    fn new_task(&mut self, creator: u32, process: Option<u32>, files: u64) {
        let tid = self.next_tid;
        self.next_tid += 1;
        let task = Task {
            tgid: process.unwrap_or(tid),
            files,
        };
        self.tasks.insert(tid, task);
        let record = self.thread_record(RECORD_BOUND, tid, task, creator);
        self.told.push(Told::Bound(record));
    }

    fn thread_record(&mut self, kind: u32, tid: u32, task: Task, creator: u32) -> ThreadRecord {
        ThreadRecord {
            kind,
            time_ns: self.now(),
            files: task.files,
            tgid: task.tgid,
            tid,
            creator,
            flags: IN_SCOPE,
            ..ThreadRecord::new_zeroed()
        }
    }

    fn fork(&mut self, who: usize) {
        let (tid, task) = self.pick(who);
        let files = self.copy(tid, task, 56);
        self.new_task(tid, None, files);
    }

    fn thread(&mut self, who: usize) {
        let (tid, task) = self.pick(who);
        self.new_task(tid, Some(task.tgid), task.files);
    }

    fn users(&self, files: u64) -> usize {
        self.tasks
            .values()
            .filter(|task| task.files == files)
            .count()
    }

    fn unshare(&mut self, who: usize) {
        let (tid, task) = self.pick(who);
        if self.users(task.files) > 1 {
            let files = self.copy(tid, task, UNSHARE);
            self.tasks.insert(tid, Task { files, ..task });
        }
    }

    /// Every other thread of the process ends first; then the one that is left has its first one's number.
    fn exec(&mut self, who: usize, keep: u64) {
        let (tid, task) = self.pick(who);
        let others: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(other, of)| of.tgid == task.tgid && **other != tid)
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.end(other);
        }
        self.tasks.remove(&tid);
        self.tasks.insert(task.tgid, task);
        let mut files = task.files;
        if self.users(files) > 1 {
            // The copy is made by a thread that has its new number already, and is known by the old one.
            files = self.copy(tid, task, UNSHARE);
            self.tasks.insert(task.tgid, Task { files, ..task });
        }
        let table = self.tables.entry(files).or_default();
        table.retain(|fd, _| keep >> (fd % 64) & 1 == 1);
        let mut record = BitsRecord {
            kind: RECORD_EXECUTED,
            files,
            tgid: task.tgid,
            tid: task.tgid,
            words: u32::try_from(WORDS).expect("small"),
            flags: IN_SCOPE,
            ..BitsRecord::new_zeroed()
        };
        for fd in table.keys() {
            record.bits[(*fd / 64) as usize] |= 1 << (fd % 64);
        }
        record.time_ns = self.now();
        self.told.push(Told::Executed(Box::new(record)));
    }

    fn exit(&mut self, who: usize) {
        if self.tasks.len() > 1 {
            let (tid, _) = self.pick(who);
            self.end(tid);
        }
    }

    fn end(&mut self, tid: u32) {
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        let record = self.thread_record(RECORD_EXITED, tid, task, tid);
        self.told.push(Told::Exited(record));
        if self.users(task.files) == 0 {
            self.tables.remove(&task.files);
        }
    }

    /// What the thread iterator shows.
    pub(super) fn show_threads(&self) -> Vec<ThreadRecord> {
        let record = |(tid, task): (&u32, &Task)| ThreadRecord {
            kind: RECORD_BOUND,
            files: task.files,
            tgid: task.tgid,
            tid: *tid,
            ..ThreadRecord::new_zeroed()
        };
        self.tasks.iter().map(record).collect()
    }

    /// What the file iterator shows.
    pub(super) fn show_slots(&self) -> Vec<OpenRecord> {
        let mut slots = Vec::new();
        for (tid, task) in &self.tasks {
            for (fd, file) in &self.tables[&task.files] {
                slots.push(OpenRecord {
                    kind: RECORD_SEEN,
                    fd: *fd,
                    files: task.files,
                    file: *file,
                    inode: *file,
                    tgid: task.tgid,
                    tid: *tid,
                    ..OpenRecord::new_zeroed()
                });
            }
        }
        slots
    }
}
