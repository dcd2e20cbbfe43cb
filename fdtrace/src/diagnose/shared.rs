//! Who fills a limit that processes share: all files of the host, or what a user may have in all its processes. Pure.
//!
//! Who fails there is most often not who has taken so many.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::cause::Cause;
use crate::{
    engine::{Engine, table::OpenFd},
    ground::kind::Kind,
};

/// Processes that are told.
pub const SHOWN: usize = 5;
/// Processes that are kept until it is known whose they are.
const CANDIDATES: usize = 128;

/// A process that holds part of what is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedHolder {
    /// The process.
    pub pid: u32,
    /// Its name. Untrusted text.
    pub comm: String,
    /// How many of them it holds.
    pub count: u64,
}

/// What a limit counts, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Of which kind the files are; `None`: all.
    pub kind: Option<Kind>,
    /// Those of each user; else of the host.
    pub is_of_user: bool,
}

/// What is counted by the limit that was hit; `None`: nothing that others hold.
#[must_use]
pub fn counted(cause: Cause) -> Option<Counted> {
    let of_host = |kind| Counted {
        kind,
        is_of_user: false,
    };
    let of_user = |kind| Counted {
        kind: Some(kind),
        is_of_user: true,
    };
    match cause {
        Cause::FileMax => Some(of_host(None)),
        Cause::UnixSockets => Some(of_host(Some(Kind::Unix))),
        Cause::InotifyInstances => Some(of_user(Kind::Inotify)),
        Cause::FanotifyGroups => Some(of_user(Kind::Fanotify)),
        Cause::PipePages => Some(of_user(Kind::Pipe)),
        _ => None,
    }
}

/// The processes that hold most of it, the largest first, whosever they are.
#[must_use]
pub fn candidates(engine: &dyn Engine, counted: Counted) -> Vec<SharedHolder> {
    let mut counts: Vec<(u64, u32)> = engine
        .tables()
        .iter()
        .filter(|table| table.is_used)
        .map(|table| {
            let count = match counted.kind {
                None => u64::from(table.open),
                Some(kind) => of_kind(engine.fds(table.files, 0), kind),
            };
            (count, table.tgid)
        })
        .filter(|(count, _)| *count > 0)
        .collect();
    // A process whose threads have tables of their own is one.
    let mut joined: FxHashMap<u32, u64> = FxHashMap::default();
    for (count, tgid) in counts.drain(..) {
        *joined.entry(tgid).or_default() += count;
    }
    let mut counts: Vec<_> = joined.into_iter().collect();
    counts.sort_unstable_by_key(|(tgid, count)| (std::cmp::Reverse(*count), *tgid));
    counts.truncate(CANDIDATES);
    let holder = |(pid, count): (u32, u64)| SharedHolder {
        pid,
        comm: comm(engine, pid),
        count,
    };
    counts.into_iter().map(holder).collect()
}

/// How many of that kind a table holds: dup makes another fd, and no other file. All ends of a pipe are one.
fn of_kind(fds: impl Iterator<Item = OpenFd>, kind: Kind) -> u64 {
    let of_kind = fds.filter(|open| open.kind == kind);
    let files: FxHashSet<u64> = of_kind
        .map(|open| {
            if kind == Kind::Pipe {
                open.inode
            } else {
                open.file
            }
        })
        .collect();
    files.len() as u64
}

/// The name of a process; empty where it is not known. Untrusted text.
pub(super) fn comm(engine: &dyn Engine, pid: u32) -> String {
    let thread = engine.thread(pid);
    let name = thread.map(|thread| thread.comm).unwrap_or_default();
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::Fake;

    fn open(fd: u32, file: u64, inode: u64, kind: Kind) -> OpenFd {
        OpenFd {
            fd,
            file,
            inode,
            kind,
            ..OpenFd::default()
        }
    }

    #[test]
    fn the_largest_holders_come_first_and_each_file_counts_once() {
        let mut engine = Fake::default();
        engine.bind(7, 7, 70, "shim");
        engine.bind(8, 8, 80, "editor");
        for fd in 0..3 {
            engine.open(70, open(fd, u64::from(fd), 1, Kind::Inotify), "");
        }
        // The same instance by five fds, and other things.
        for fd in 0..5 {
            engine.open(80, open(fd, 9, 1, Kind::Inotify), "");
        }
        engine.open(80, open(5, 10, 2, Kind::Pipe), "");
        engine.open(80, open(6, 11, 2, Kind::Pipe), "");
        let of = |cause| {
            let holders = candidates(&engine, counted(cause).unwrap()).into_iter();
            let told = holders.map(|holder| (holder.pid, holder.comm, holder.count));
            told.collect::<Vec<_>>()
        };
        let shim = |count| (7, "shim".to_owned(), count);
        let editor = |count| (8, "editor".to_owned(), count);
        assert_eq!(of(Cause::InotifyInstances), [shim(3), editor(1)]);
        assert_eq!(of(Cause::PipePages), [editor(1)]);
        assert_eq!(of(Cause::FileMax), [editor(7), shim(3)]);
        assert_eq!(of(Cause::UnixSockets), []);
        assert_eq!(counted(Cause::RlimitNofile), None);
    }
}
