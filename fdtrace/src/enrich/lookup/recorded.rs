//! What a recording has told of processes.

use super::{Looked, LookedProcess, Lookup};
use crate::{
    diagnose::{
        origin::{Nofile, Whose},
        select::Select,
    },
    enrich::names::Named,
    ground::{host::Host, newest::Newest, place::Place},
};

/// Live, a line is written at most so long after its moment, as a rule: that a process has ended later is
/// not for this line. Nanoseconds.
const ASKED_NS: u64 = 100_000_000;

/// What has been told up to here.
#[derive(Debug, Default)]
pub struct Recorded {
    processes: Newest<u32, LookedProcess>,
    /// By process and inode number.
    paths: Newest<(u32, u64), Vec<u8>>,
}

impl Lookup for Recorded {
    fn path(&mut self, pid: u32, _: u32, inode: u64) -> Option<Vec<u8>> {
        self.paths.get(&(pid, inode)).cloned()
    }

    fn user(&mut self, pid: u32) -> Option<u32> {
        self.processes.get(&pid)?.uid
    }

    fn cgroup(&mut self, pid: u32) -> Option<Vec<u8>> {
        let cgroup = self.processes.get(&pid)?.cgroup.as_ref()?;
        Some(cgroup.0.clone())
    }

    fn has_ended(&mut self, pid: u32, _: u64, at_ns: u64) -> bool {
        let process = self.processes.get(&pid);
        let ended_ns = process.and_then(|process| process.ended_ns);
        ended_ns.is_some_and(|ended_ns| ended_ns <= at_ns.saturating_add(ASKED_NS))
    }

    fn named(&mut self, pid: u32, _: &Place) -> Named {
        let process = self.processes.get(&pid);
        process
            .map(|process| process.named.clone())
            .unwrap_or_default()
    }

    fn whose(&mut self, pid: u32, own: Nofile, place: &Place) -> Option<Whose> {
        let lineage = self.processes.get(&pid)?.lineage.as_ref()?;
        Some(Whose::of(own, place, Some(lineage)))
    }

    fn select(&mut self, pid: u32) -> Option<Select> {
        self.processes.get(&pid)?.select.clone()
    }

    fn host(&mut self) -> Option<Host> {
        None
    }

    fn learn(&mut self, looked: Looked) {
        for process in looked.processes {
            self.processes.insert(process.pid, process);
        }
        for path in looked.paths {
            for file in path.files {
                self.paths.insert(file, path.path.0.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::lookup::{LookedPath, Text};

    #[test]
    fn what_was_told_last_is_known() {
        let path = |path: &str, files: &[(u32, u64)]| LookedPath {
            path: Text(path.as_bytes().to_vec()),
            files: files.to_vec(),
        };
        let mut recorded = Recorded::default();
        recorded.learn(Looked {
            processes: vec![LookedProcess {
                pid: 7,
                uid: Some(33),
                cgroup: Some(Text(b"/web".to_vec())),
                ended_ns: Some(5 * ASKED_NS),
                named: Named::default(),
                lineage: None,
                select: Some(Select::Called { most: 9 }),
            }],
            paths: vec![path("/dev/null", &[(7, 4), (8, 4)]), path("/a", &[(7, 5)])],
        });
        recorded.learn(Looked {
            processes: Vec::new(),
            paths: vec![path("/a (deleted)", &[(7, 5)])],
        });
        assert_eq!(recorded.path(8, 0, 4).as_deref(), Some(&b"/dev/null"[..]));
        assert_eq!(
            recorded.path(7, 9, 5).as_deref(),
            Some(&b"/a (deleted)"[..])
        );
        assert_eq!(recorded.path(9, 0, 4), None);
        assert_eq!((recorded.user(7), recorded.user(8)), (Some(33), None));
        let has_ended = |at_ns| recorded.has_ended(7, 0, at_ns);
        assert_eq!(
            [1, 3, 4, 9].map(|at| at * ASKED_NS).map(has_ended),
            [false, false, true, true]
        );
        assert!(!recorded.has_ended(8, 0, u64::MAX));
        assert_eq!(recorded.select(7), Some(Select::Called { most: 9 }));
        assert_eq!(recorded.select(8), None);
        assert_eq!(recorded.cgroup(7).as_deref(), Some(&b"/web"[..]));
    }
}
