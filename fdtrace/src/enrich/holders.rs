//! Full paths for what fills a table, where its process is still there.

use super::path;
use crate::{diagnose::holders::Holder, model::kind::Kind};

/// Gives each group that leads to one file its full path; of others the name has to do. A file that was
/// deleted is marked, as /proc does.
pub fn find_paths(holders: &mut [Holder], pid: u32) {
    for holder in holders {
        let has_path = matches!(
            holder.kind,
            Kind::File | Kind::Dir | Kind::Char | Kind::Block | Kind::Fifo
        );
        let (fd, inode) = holder.example;
        if has_path
            && holder.inodes == 1
            && holder.targets == 1
            && let Some(path) = path::of_fd(pid, fd, inode)
        {
            holder.target = Some(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::MetadataExt};

    use super::*;

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
        find_paths(&mut holders, std::process::id());
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            holders[0].target,
            Some(own.into_os_string().into_encoded_bytes())
        );
        assert_eq!(holders[1].target, Some(b"exe".to_vec()));
    }
}
