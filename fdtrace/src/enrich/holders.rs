//! Full paths for what fills a table, as far as somebody knows them.

use super::lookup::Lookup;
use crate::diagnose::holders::{Holder, folders::Folders};

/// Gives each group that leads to one file its full path, and each that leads to several the folders where they
/// lie. A file that was deleted is marked, as /proc does. A process that has closed the file, or has ended, had it
/// where an earlier report has found it.
pub fn find_paths(holders: &mut [Holder], pid: u32, lookup: &mut dyn Lookup) {
    for holder in holders {
        let Some((fd, inode)) = one_file(holder) else {
            find_folders(holder, pid, lookup);
            continue;
        };
        if let Some(path) = lookup.path(pid, fd, inode) {
            lookup.remember(pid, inode, &path);
            holder.target = Some(path);
        } else if let Some(path) = lookup.remembered(pid, inode)
            && is_named(&path, holder.target.as_deref())
        {
            holder.target = Some(path);
        }
    }
}

fn find_folders(holder: &mut Holder, pid: u32, lookup: &mut dyn Lookup) {
    let files = holder.files.iter();
    let paths: Vec<_> = files
        .filter_map(|(fd, inode)| lookup.path(pid, *fd, *inode))
        .collect();
    if !paths.is_empty() {
        holder.folders = Some(Folders::of(paths.iter().map(Vec::as_slice)));
    }
}

/// Files whose paths [`find_paths`] asks for: their numbers and inodes.
pub fn wanted(holder: &Holder) -> impl Iterator<Item = (u32, u64)> {
    one_file(holder)
        .into_iter()
        .chain(holder.files.iter().copied())
}

/// Does this path end in that name? The number of an inode is used again.
fn is_named(path: &[u8], name: Option<&[u8]>) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next();
    last.zip(name)
        .is_some_and(|(last, name)| last.starts_with(name))
}

/// The number and the inode of a group that leads to one file, which has a path.
#[must_use]
fn one_file(holder: &Holder) -> Option<(u32, u64)> {
    let is_one = holder.kind.has_path() && holder.inodes == 1 && holder.targets == 1;
    is_one.then_some(holder.example)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::MetadataExt};

    use super::*;
    use crate::{
        enrich::{lookup::ThisHost, names::Named},
        ground::{host::Host, kind::Kind, place::Place},
    };

    /// One that finds a path once.
    #[derive(Default)]
    struct Once {
        host: ThisHost,
        path: Option<Vec<u8>>,
    }

    impl Lookup for Once {
        fn path(&mut self, _: u32, _: u32, _: u64) -> Option<Vec<u8>> {
            self.path.take()
        }

        fn remember(&mut self, pid: u32, inode: u64, path: &[u8]) {
            self.host.remember(pid, inode, path);
        }

        fn remembered(&self, pid: u32, inode: u64) -> Option<Vec<u8>> {
            self.host.remembered(pid, inode)
        }

        fn user(&mut self, _: u32) -> Option<u32> {
            None
        }

        fn cgroup(&mut self, _: u32) -> Option<Vec<u8>> {
            None
        }

        fn has_ended(&mut self, _: u32, _: u64, _: u64) -> bool {
            true
        }

        fn named(&mut self, _: u32, _: &Place) -> Named {
            Named::default()
        }

        fn host(&mut self) -> Option<Host> {
            None
        }
    }

    #[test]
    fn a_path_outlives_its_process() {
        let holder = |name: &str| Holder {
            kind: Kind::File,
            target: Some(name.as_bytes().to_vec()),
            states: Vec::new(),
            targets: 1,
            count: 2,
            inodes: 1,
            inherited: 0,
            oldest_ns: None,
            newest_ns: None,
            example: (3, 77),
            files: Vec::new(),
            folders: None,
            openers: Vec::new(),
        };
        let mut once = Once {
            path: Some(b"/etc/hostname".to_vec()),
            ..Once::default()
        };
        let mut target = |pid, name| {
            let mut holders = [holder(name)];
            find_paths(&mut holders, pid, &mut once);
            String::from_utf8(holders[0].target.clone().unwrap()).unwrap()
        };
        assert_eq!(target(7, "hostname"), "/etc/hostname");
        assert_eq!(target(7, "hostname"), "/etc/hostname");
        assert_eq!(target(8, "hostname"), "hostname", "another process");
        assert_eq!(target(7, "other"), "other", "another file of that number");
    }

    #[test]
    fn one_file_has_a_path_and_many_have_not() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let holder = |inodes| Holder {
            kind: Kind::File,
            target: Some(b"exe".to_vec()),
            states: Vec::new(),
            targets: 1,
            count: 2,
            inodes,
            inherited: 0,
            oldest_ns: None,
            newest_ns: None,
            example: (
                file.as_raw_fd().unsigned_abs(),
                file.metadata().unwrap().ino(),
            ),
            files: Vec::new(),
            folders: None,
            openers: Vec::new(),
        };
        let mut holders = [holder(1), holder(2)];
        find_paths(&mut holders, std::process::id(), &mut ThisHost::default());
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            holders[0].target,
            Some(own.into_os_string().into_encoded_bytes())
        );
        assert_eq!(holders[1].target, Some(b"exe".to_vec()));
    }
}
