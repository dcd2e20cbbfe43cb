//! A file that processes have mapped, held for as long as anything refers to it. It is found and not opened:
//! that is the reader process's work, and waiting for whoever serves the file as well.

use std::{
    cell::OnceCell,
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    rc::Rc,
};

use log::debug;
use rustc_hash::FxHashMap;
use rustix::process::{Resource, getrlimit};

use super::{bounds, imports::Found};
use crate::enrich::regular::{Key, Regular};

/// One file.
#[derive(Debug)]
pub(super) struct Module {
    /// Which of all that there were.
    pub(super) id: u32,
    pub(super) file: Regular,
    /// As the first process called it that had it mapped. Untrusted.
    pub(super) path: Rc<str>,
    /// Whether it uses select, once somebody has looked; `None`: it cannot be read.
    pub(super) imports: OnceCell<Option<Found>>,
}

/// All files that are held.
#[derive(Default)]
pub(super) struct Modules {
    by_key: FxHashMap<Key, Rc<Module>>,
    made: u32,
}

impl Modules {
    /// The regular file that is there, if it has this inode number.
    pub(super) fn find(&mut self, at: &Path, name: &str, inode: Option<u64>) -> Option<Rc<Module>> {
        self.try_find(at, name, inode).unwrap_or_else(|error| {
            debug!("{}: {error}", at.display());
            None
        })
    }

    fn try_find(
        &mut self,
        at: &Path,
        name: &str,
        inode: Option<u64>,
    ) -> io::Result<Option<Rc<Module>>> {
        let file = Regular::find(at)?;
        if inode.is_some_and(|inode| inode != file.key.inode) {
            return Ok(None);
        }
        if let Some(module) = self.by_key.get(&file.key) {
            return Ok(Some(Rc::clone(module)));
        }
        let is_short = is_short_of_fds(&file);
        if is_short || self.by_key.len() >= bounds::MODULES {
            self.by_key.retain(|_, module| Rc::strong_count(module) > 1);
            if is_short || self.by_key.len() >= bounds::MODULES {
                return Ok(None);
            }
        }
        self.made += 1;
        let key = file.key;
        let module = Rc::new(Module {
            id: self.made,
            file,
            path: name.into(),
            imports: OnceCell::new(),
        });
        self.by_key.insert(key, Rc::clone(&module));
        Ok(Some(module))
    }
}

/// Has a file got one of the last fds below the limit? fdtrace needs them for other things.
fn is_short_of_fds(file: &Regular) -> bool {
    let number = u64::try_from(file.as_fd().as_raw_fd()).unwrap_or_default();
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| number + bounds::FDS_LEFT >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_none() {
        let mut modules = Modules::default();
        for path in ["/dev/null", "/proc", "/nonexistent"] {
            let found = modules.find(Path::new(path), path, None);
            assert!(found.is_none(), "{path}");
        }
        let own = Path::new("/proc/self/exe");
        let first = modules.find(own, "own", None).unwrap();
        let again = modules.find(own, "other name", None).unwrap();
        assert!(Rc::ptr_eq(&first, &again));
        assert!(modules.find(own, "own", Some(1)).is_none(), "another file");
    }
}
