//! What a process executes, as the kernel has told it at exec. A static program may open, close and end within
//! a millisecond: then its mappings can be read no more, and are made up from its file.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    rc::Rc,
};

use fdtrace_common::stack::ProgramRecord;

use super::module::{Module, Modules};
use crate::stream::decode;

/// Processes whose programs are remembered.
const KEPT: usize = 1_024;

/// An executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// As the process's mount namespace sees it; untrusted.
    path: Box<str>,
    inode: u64,
}

impl From<&ProgramRecord> for Program {
    fn from(record: &ProgramRecord) -> Self {
        let path = decode::path(&record.exe, record.exe_truncated);
        Self {
            path: String::from_utf8_lossy(&path).into(),
            inode: record.inode,
        }
    }
}

impl Program {
    /// As the process's mount namespace sees it; untrusted.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.path.len()
    }

    /// The file, if fdtrace finds the same one by that name.
    pub(super) fn find(&self, modules: &mut Modules) -> Option<Rc<Module>> {
        modules.find(Path::new(&*self.path), &self.path, Some(self.inode))
    }
}

/// The programs of the last processes that have executed one.
#[derive(Default)]
pub(super) struct Programs {
    by_process: HashMap<u32, Program>,
    order: VecDeque<u32>,
}

impl Programs {
    /// A process executes another one.
    pub(super) fn put(&mut self, tgid: u32, program: Program) {
        if self.by_process.insert(tgid, program).is_some() {
            return;
        }
        self.order.push_back(tgid);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_process.remove(&oldest);
        }
    }

    /// The one of a process.
    pub(super) fn of(&self, tgid: u32) -> Option<&Program> {
        self.by_process.get(&tgid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_programs_are_kept() {
        let program = |number: u32| Program {
            path: format!("/bin/{number}").into(),
            inode: 1,
        };
        let kept = u32::try_from(KEPT).unwrap();
        let mut programs = Programs::default();
        for tgid in 0..2 * kept {
            programs.put(tgid, program(tgid));
            programs.put(tgid, program(tgid + 1));
        }
        assert_eq!(
            (programs.by_process.len(), programs.order.len()),
            (KEPT, KEPT)
        );
        assert_eq!(programs.of(0), None);
        assert_eq!(programs.of(kept + 5), Some(&program(kept + 6)));
    }
}
