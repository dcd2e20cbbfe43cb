//! Full paths for what fills a table, as far as somebody knows them.

use super::lookup::Lookup;
use crate::diagnose::holders::Holder;

/// Gives each group that leads to one file its full path; of others the name has to do. A file that was
/// deleted is marked, as /proc does.
pub fn find_paths(holders: &mut [Holder], pid: u32, lookup: &mut dyn Lookup) {
    for holder in holders {
        if let Some((fd, inode)) = one_file(holder)
            && let Some(path) = lookup.path(pid, fd, inode)
        {
            holder.target = Some(path);
        }
    }
}

/// The number and the inode of a group that leads to one file, which has a path.
#[must_use]
pub fn one_file(holder: &Holder) -> Option<(u32, u64)> {
    let is_one = holder.kind.has_path() && holder.inodes == 1 && holder.targets == 1;
    is_one.then_some(holder.example)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::MetadataExt};

    use super::*;
    use crate::{enrich::lookup::ThisHost, model::kind::Kind};

    #[test]
    fn one_file_has_a_path_and_many_have_not() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let holder = |inodes| Holder {
            kind: Kind::File,
            target: Some(b"exe".to_vec()),
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
