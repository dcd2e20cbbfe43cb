//! The full path of an open file, if its process still has it open.

use std::os::unix::fs::MetadataExt;

/// What /proc says an fd leads to; `None` where it leads to something else by now, or nowhere.
#[must_use]
pub fn of_fd(pid: u32, fd: u32, inode: u64) -> Option<Vec<u8>> {
    let link = format!("/proc/{pid}/fd/{fd}");
    let path = std::fs::read_link(&link).ok()?;
    let metadata = std::fs::metadata(&link).ok()?;
    (metadata.ino() == inode).then(|| path.into_os_string().into_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_inode_must_be_the_same() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let inode = file.metadata().unwrap().ino();
        let fd = file.as_raw_fd().unsigned_abs();
        let own = std::env::current_exe().unwrap();
        let path = of_fd(std::process::id(), fd, inode).unwrap();
        assert_eq!(path, own.into_os_string().into_encoded_bytes());
        assert_eq!(of_fd(std::process::id(), fd, inode + 1), None);
    }
}
