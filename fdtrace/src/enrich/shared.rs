//! Who holds most of what processes share, from /proc: where the tables that are followed do not show it, as with
//! filters, or between two snapshots.

use std::{
    collections::HashSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use super::process::folder;
use crate::{
    diagnose::shared::{Counted, SHOWN, SharedHolder},
    ground::kind::Kind,
};

/// Looking takes no longer, and ends with what it has found by then.
const TIME_MAX: Duration = Duration::from_millis(500);
/// Fds that are looked at, of all processes together.
const FDS_MAX: usize = 400_000;

/// The largest holders, of a user if that is what is counted; and whether some processes were left out. `None`: /proc
/// does not tell this kind from others.
#[must_use]
pub fn holders(counted: Counted, uid: u32) -> Option<(Vec<SharedHolder>, bool)> {
    let name: Option<&[u8]> = match counted.kind {
        None => None,
        Some(Kind::Inotify) => Some(b"anon_inode:inotify"),
        Some(Kind::Fanotify) => Some(b"anon_inode:[fanotify]"),
        Some(Kind::Pipe) => Some(b"pipe:["),
        Some(_) => return None,
    };
    let end = Instant::now() + TIME_MAX;
    let mut left = FDS_MAX;
    let mut is_partial = false;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else {
            continue;
        };
        if counted.is_of_user && entry.metadata().is_ok_and(|process| process.uid() != uid) {
            continue;
        }
        if Instant::now() > end || left == 0 {
            is_partial = true;
            break;
        }
        let count = count(&folder(pid), name, &mut left);
        if count > 0 {
            found.push((count, pid));
        }
    }
    found.sort_unstable_by_key(|(count, pid)| (std::cmp::Reverse(*count), *pid));
    found.truncate(SHOWN);
    let holder = |(count, pid)| SharedHolder {
        pid,
        comm: comm(pid),
        count,
    };
    Some((found.into_iter().map(holder).collect(), is_partial))
}

/// How many fds of a process lead to what is named so; of pipes, to how many.
fn count(folder: &Path, name: Option<&[u8]>, left: &mut usize) -> u64 {
    let folder = folder.join("fd");
    let Some(name) = name else {
        // Since 6.2 it is as large as it has entries (`proc_fd_getattr`, fs/proc/fd.c).
        let size = fs::metadata(&folder).map_or(0, |folder| folder.size());
        if size > 0 {
            return size;
        }
        let fds = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .take(*left)
            .count();
        *left -= fds;
        return fds as u64;
    };
    let mut pipes = HashSet::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if target.as_os_str().as_bytes().starts_with(name) {
            let is_another = name != b"pipe:[" || pipes.insert(target);
            count += u64::from(is_another);
        }
    }
    count
}

fn comm(pid: u32) -> String {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    String::from_utf8_lossy(comm).into_owned()
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn pipes_of_this_process_are_counted_once_each() {
        let own = Path::new("/proc/self");
        let before = count(own, Some(b"pipe:["), &mut FDS_MAX.clone());
        let pipes = [pipe().unwrap(), pipe().unwrap()];
        // Other tests have pipes too, that come and go.
        let with = count(own, Some(b"pipe:["), &mut FDS_MAX.clone());
        assert!(with >= 2, "{before} {with}");
        assert_eq!(count(own, Some(b"pipe:["), &mut 0), 0);
        assert!(count(own, None, &mut FDS_MAX.clone()) >= 7);
        drop(pipes);
    }
}
