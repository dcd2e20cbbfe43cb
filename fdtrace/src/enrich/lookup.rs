//! Where facts find what no record of the kernel tells: on this host while they are fresh, or in a
//! recording, whose host may be another one.

mod looked;
mod recorded;

use std::time::Instant;

pub use self::{
    looked::{Looked, LookedPath, LookedProcess, Text},
    recorded::Recorded,
};
use super::{
    lineage::Lineages,
    names::{Named, Names},
    path,
    process::{folder, has_ended, user_of},
    shared,
};
use crate::{
    diagnose::{
        origin::{Lineage, Nofile, Whose},
        select::Select,
        shared::{Counted, SharedHolder},
    },
    ground::{host::Host, newest::Newest, place::Place},
    probe::{cgroup, host},
    timers::Timer,
};

/// Whoever is asked about processes. Not for the loop that reads records.
pub trait Lookup: Send {
    /// The full path of an open file.
    fn path(&mut self, pid: u32, fd: u32, inode: u64) -> Option<Vec<u8>>;

    /// Keeps the path of a file that a report has named, for a later report of the same process.
    fn remember(&mut self, _pid: u32, _inode: u64, _path: &[u8]) {}

    /// What was kept of it.
    fn remembered(&self, _pid: u32, _inode: u64) -> Option<Vec<u8>> {
        None
    }

    /// A process's effective user.
    fn user(&mut self, pid: u32) -> Option<u32>;

    /// A process's v2 cgroup.
    fn cgroup(&mut self, pid: u32) -> Option<Vec<u8>>;

    /// Has the process ended, or is its number another one's, at a moment? `started_ns`: when it was started
    /// (`group_leader->start_boottime`), 0 where that is not known; both in nanoseconds since boot.
    fn has_ended(&mut self, pid: u32, started_ns: u64, at_ns: u64) -> bool;

    /// What the container and the pod of a process are called that belongs there.
    fn named(&mut self, pid: u32, place: &Place) -> Named;

    /// Whose the limits of a process are, which has these, and belongs there; `None`: nobody has looked.
    fn whose(&mut self, _pid: u32, _own: Nofile, _place: &Place) -> Option<Whose> {
        None
    }

    /// Who holds most of what processes share, of a user if it is what each user may have, and whether some were left
    /// out; `None`: nobody can tell.
    fn shared(&mut self, _counted: Counted, _uid: u32) -> Option<(Vec<SharedHolder>, bool)> {
        None
    }

    /// A process's executable.
    fn exe(&mut self, _pid: u32) -> Option<Vec<u8>> {
        None
    }

    /// Whether a process was found to use select(2). Live, whoever makes the fact asks.
    fn select(&mut self, _pid: u32) -> Option<Select> {
        None
    }

    /// The host's limits now; `None`: what a fact says of them is right already.
    fn host(&mut self) -> Option<Host>;

    /// Somebody has told this: a recording, or whoever has started the process.
    fn learn(&mut self, _: Looked) {}
}

/// This host, now; of processes that have ended, what was told of them before.
#[derive(Default)]
pub struct ThisHost {
    names: Names,
    lineages: Lineages,
    /// The last answer, for the storm that follows.
    shared: Option<Answer>,
    before: Recorded,
    /// Of files that reports have named, by process and inode number.
    paths: Newest<(u32, u64), Vec<u8>>,
}

/// Who holds what is shared is asked again after so long.
const FRESH: Timer = Timer::seconds(5);

/// See [`Lookup::shared`].
struct Answer {
    question: (Counted, u32),
    time: Instant,
    told: Option<(Vec<SharedHolder>, bool)>,
}

impl ThisHost {
    /// Who is above a process, and what its unit says; `None` where it is gone.
    pub fn lineage(&mut self, pid: u32) -> Option<Lineage> {
        self.lineages.of(pid)
    }
}

impl Lookup for ThisHost {
    fn path(&mut self, pid: u32, fd: u32, inode: u64) -> Option<Vec<u8>> {
        path::of_fd(pid, fd, inode)
    }

    fn remember(&mut self, pid: u32, inode: u64, path: &[u8]) {
        self.paths.insert((pid, inode), path.to_vec());
    }

    fn remembered(&self, pid: u32, inode: u64) -> Option<Vec<u8>> {
        self.paths.get(&(pid, inode)).cloned()
    }

    fn user(&mut self, pid: u32) -> Option<u32> {
        user_of(pid).or_else(|| self.before.user(pid))
    }

    fn cgroup(&mut self, pid: u32) -> Option<Vec<u8>> {
        cgroup::of_process(pid).or_else(|| self.before.cgroup(pid))
    }

    fn has_ended(&mut self, pid: u32, started_ns: u64, _: u64) -> bool {
        has_ended(pid, started_ns)
    }

    fn named(&mut self, _: u32, place: &Place) -> Named {
        self.names.of(place)
    }

    fn whose(&mut self, pid: u32, own: Nofile, place: &Place) -> Option<Whose> {
        let lineage = self.lineage(pid);
        Some(Whose::of(own, place, lineage.as_ref()))
    }

    fn shared(&mut self, counted: Counted, uid: u32) -> Option<(Vec<SharedHolder>, bool)> {
        let question = (counted, uid);
        let is_fresh = |shared: &&Answer| {
            shared.question == question && shared.time.elapsed() < FRESH.duration()
        };
        if let Some(answer) = self.shared.as_ref().filter(is_fresh) {
            return answer.told.clone();
        }
        let answer = shared::holders(counted, uid);
        self.shared = Some(Answer {
            question,
            time: Instant::now(),
            told: answer.clone(),
        });
        answer
    }

    fn exe(&mut self, pid: u32) -> Option<Vec<u8>> {
        let exe = std::fs::read_link(folder(pid).join("exe")).ok()?;
        Some(exe.into_os_string().into_encoded_bytes())
    }

    fn host(&mut self) -> Option<Host> {
        Some(host::all())
    }

    fn learn(&mut self, looked: Looked) {
        self.before.learn(looked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_what_was_told_of_it() {
        // Beyond the largest pid_max.
        let (ended, own) = (1 << 23, std::process::id());
        let told = |pid| LookedProcess {
            pid,
            uid: Some(4_321),
            cgroup: Some(Text(b"/told".to_vec())),
            named: Named::default(),
            select: None,
            ended_ns: None,
            lineage: None,
        };
        let mut host = ThisHost::default();
        assert_eq!((host.user(ended), host.cgroup(ended)), (None, None));
        host.learn(Looked {
            processes: vec![told(ended), told(own)],
            paths: Vec::new(),
        });
        assert_eq!(host.user(ended), Some(4_321));
        assert_eq!(host.cgroup(ended).as_deref(), Some(&b"/told"[..]));
        assert_eq!(host.user(own), user_of(own), "it is there to be asked");
    }
}
