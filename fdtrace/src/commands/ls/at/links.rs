//! Files below a directory that have further names elsewhere: they may have been opened by one of those.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::stat;

use crate::ground::file::OpenFile;

/// Names below a directory that are looked at: on a disk that is a matter of seconds.
const NAMES_MAX: usize = 1_000_000;

/// Device and inode number, as stat(2) has them.
type Identity = (u64, u64);

/// What has several names below one directory.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Open files that are not below it by the name that they were opened by, by the kernel's number of the inode.
    asked: HashMap<u64, bool>,
    /// Read when the first open file has several names, which few files have.
    below: Option<HashSet<Identity>>,
}

impl Links {
    /// Has this open file another name on the same file system below the directory?
    pub(super) fn has(&mut self, directory: &Path, file: &OpenFile) -> bool {
        if let Some(known) = self.asked.get(&file.inode) {
            return *known;
        }
        let link = format!("/proc/{}/task/{}/fd/{}", file.tgid, file.tid, file.fd);
        // One that has been closed meanwhile cannot be asked any more.
        let Ok(found) = stat(link) else {
            return false;
        };
        let is_below = found.st_nlink > 1 && {
            let below = self.below.get_or_insert_with(|| names_below(directory));
            below.contains(&(found.st_dev, found.st_ino))
        };
        self.asked.insert(file.inode, is_below);
        is_below
    }
}

/// All files below a directory, on its file system, that have several names. A directory that cannot be read has none.
fn names_below(directory: &Path) -> HashSet<Identity> {
    let mut found = HashSet::new();
    let Ok(device) = fs::symlink_metadata(directory).map(|known| known.dev()) else {
        return found;
    };
    let mut left: Vec<PathBuf> = vec![directory.to_path_buf()];
    let mut names = 0;
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            names += 1;
            if names > NAMES_MAX {
                log::warn!(
                    "files that were opened by a hard link elsewhere may be missing: there are more than {NAMES_MAX} \
                     names below the directory"
                );
                return found;
            }
            // That of a symbolic link itself.
            let Ok(known) = entry.metadata() else {
                continue;
            };
            if known.dev() != device {
                continue;
            }
            if known.is_dir() {
                left.push(entry.path());
            } else if known.nlink() > 1 {
                found.insert((known.dev(), known.ino()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_several_names_are_found_in_all_depths() {
        let folder = std::env::temp_dir().join(format!("fdtrace-links-{}", std::process::id()));
        let (inside, outside) = (folder.join("in/deep"), folder.join("out"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        for name in ["linked", "alone"] {
            fs::write(inside.join(name), "").unwrap();
        }
        fs::hard_link(inside.join("linked"), outside.join("other")).unwrap();
        std::os::unix::fs::symlink(&folder, inside.join("round")).unwrap();
        let known = fs::metadata(outside.join("other")).unwrap();
        let found = names_below(&folder.join("in"));
        let nowhere = names_below(&folder.join("nowhere"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, HashSet::from([(known.dev(), known.ino())]));
        assert!(nowhere.is_empty());
    }
}
