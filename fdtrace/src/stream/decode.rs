//! Records out of bytes. Nothing here trusts the text in them: it is a traced process's own.

use fdtrace_common::{
    UNKNOWN,
    alarm::{ALARM_BY_SUPERVISOR, AlarmRecord, COMPONENT_SIZE, Path, StormKey},
    census::TaskRecord,
};
use rustc_hash::FxHashSet;
use zerocopy::FromBytes;

use crate::ground::task::Task;

/// A record that is not of the size its kind has.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a record of {got} bytes where {expected} were expected: kernel programs and fdtrace differ"
)]
pub struct WrongSize {
    /// Bytes there.
    pub got: usize,
    /// Bytes of such a record.
    pub expected: usize,
}

/// One failure, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// What makes it the same failure as another.
    pub key: StormKey,
    /// Failures of this key that `cpu` has counted so far, this one included.
    pub failures: u64,
    /// See [`Alarm::failures`].
    pub cpu: u32,
    /// The thread.
    pub tid: u32,
    /// Its user.
    pub uid: u32,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// The syscall's first three arguments.
    pub arguments: [u64; 3],
    /// Numbers taken, where the kernel could count them.
    pub used: Option<u32>,
    /// Files open, where the kernel could count them.
    pub open: Option<u32>,
    /// Slots of the table.
    pub max_fds: u32,
    /// The thread was stopped in its call, and a seccomp supervisor was putting a file into its table.
    pub by_supervisor: bool,
    /// The thread's name, without its NUL.
    pub comm: Vec<u8>,
    /// The program's path; `None` where there was none to read.
    pub exe: Option<Vec<u8>>,
    /// The cgroup v2 path; `/` is the root's, and everybody's where only v1 is used.
    pub cgroup: Vec<u8>,
}

impl Alarm {
    /// Decodes one record of the ring.
    pub fn decode(bytes: &[u8]) -> Result<Self, WrongSize> {
        let record = AlarmRecord::read_from_bytes(bytes).map_err(|_| WrongSize {
            got: bytes.len(),
            expected: size_of::<AlarmRecord>(),
        })?;
        Ok(Self {
            time_ns: record.time_ns,
            key: record.key,
            failures: record.failures,
            cpu: record.cpu,
            tid: record.tid,
            uid: record.uid,
            soft: record.soft,
            hard: record.hard,
            arguments: record.arguments,
            used: known(record.used),
            open: known(record.open),
            max_fds: record.max_fds,
            by_supervisor: record.flags & ALARM_BY_SUPERVISOR != 0,
            comm: until_nul(&record.comm).to_vec(),
            // Kernel threads have none.
            exe: Some(path(&record.exe, record.exe_truncated)).filter(|path| path != b"/"),
            cgroup: path(&record.cgroup, record.cgroup_truncated),
        })
    }
}

impl Task {
    /// Decodes everything one run of the iterator wrote.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, WrongSize> {
        let size = size_of::<TaskRecord>();
        let wrong = WrongSize {
            got: bytes.len() % size,
            expected: size,
        };
        let records = bytes.chunks_exact(size);
        if !records.remainder().is_empty() {
            return Err(wrong);
        }
        records
            .map(|bytes| {
                let record = TaskRecord::read_from_bytes(bytes).map_err(|_| WrongSize {
                    got: bytes.len(),
                    expected: size,
                })?;
                Ok(Self {
                    files: record.files,
                    tgid: record.tgid,
                    tid: record.tid,
                    soft: record.soft,
                    hard: record.hard,
                    used: known(record.used),
                    comm: until_nul(&record.comm).to_vec(),
                })
            })
            .collect()
    }

    /// Leaves one task for each table of a process, the first.
    ///
    /// The kernel's side writes a task for a leader, and one for each thread whose table is another. A leader
    /// that has exited has no table any more (`exit_files`), so each of the threads that live on is written
    /// with the table that they share; so are threads that share a table that is not their leader's.
    pub fn one_a_table(tasks: &mut Vec<Self>) {
        let mut seen = FxHashSet::default();
        tasks.retain(|task| seen.insert((task.tgid, task.files)));
    }
}

fn known(count: u32) -> Option<u32> {
    (count != UNKNOWN).then_some(count)
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Puts components in order; a `…` stands where the kernel program's room has ended.
/// A path as it is written: cut where the kernel had no room for more.
pub(crate) fn path<const DEPTH: usize>(path: &Path<DEPTH>, truncated: u32) -> Vec<u8> {
    const CUT: &[u8] = "…".as_bytes();
    let mut whole = Vec::new();
    if truncated != 0 {
        whole.extend_from_slice(CUT);
    }
    let names = path.iter().rev().map(|component| until_nul(component));
    for name in names.filter(|name| !name.is_empty()) {
        whole.push(b'/');
        whole.extend_from_slice(name);
        if name.len() == COMPONENT_SIZE - 1 {
            whole.extend_from_slice(CUT);
        }
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
