//! The full path of an open file, if its process still has it open.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::process::folder;

/// What /proc says an fd leads to; `None` where it leads to something else by now, or nowhere.
#[must_use]
pub fn of_fd(pid: u32, fd: u32, inode: u64) -> Option<Vec<u8>> {
    let folder = folder(pid);
    let link = folder.join(format!("fd/{fd}"));
    let path = fs::read_link(&link).ok()?;
    let known = inode_of(&folder, fd).or_else(|| stat(&link))?;
    (known == inode).then(|| path.into_os_string().into_encoded_bytes())
}

/// As the kernel has it, without asking the file system, whose server may be gone: `ino` has been in fdinfo
/// since 5.14 (`seq_show`, fs/proc/fd.c).
fn inode_of(folder: &Path, fd: u32) -> Option<u64> {
    // One of the first lines: what follows can be a line for each of a hundred thousand files.
    const BEGINNING: u64 = 4_096;
    let file = File::open(folder.join(format!("fdinfo/{fd}"))).ok()?;
    let mut information = Vec::new();
    file.take(BEGINNING).read_to_end(&mut information).ok()?;
    let information = String::from_utf8_lossy(&information);
    let mut lines = information.lines();
    lines.find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok())
}

/// Where it is not: without a word to the server either, which knew the file when it was opened.
fn stat(link: &Path) -> Option<u64> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, link, flags, StatxFlags::INO).ok()?;
    Some(found.stx_ino)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn the_inode_must_be_the_same() {
        let file = File::open("/proc/self/exe").unwrap();
        let inode = file.metadata().unwrap().ino();
        let fd = file.as_raw_fd().unsigned_abs();
        let own = std::env::current_exe().unwrap();
        let path = of_fd(std::process::id(), fd, inode).unwrap();
        assert_eq!(path, own.into_os_string().into_encoded_bytes());
        assert_eq!(of_fd(std::process::id(), fd, inode + 1), None);
    }

    #[test]
    fn the_kernel_knows_the_inode_where_it_tells_one() {
        let file = File::open("/proc/self/exe").unwrap();
        let inode = inode_of(Path::new("/proc/self"), file.as_raw_fd().unsigned_abs());
        let expected = file.metadata().unwrap().ino();
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(stat(Path::new(&link)), Some(expected));
        assert!(inode.is_none_or(|inode| inode == expected), "{inode:?}");
    }
}
