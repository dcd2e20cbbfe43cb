//! Files at paths that a traced process chooses: only regular ones are ever opened.
//!
//! Opening is not harmless: a FIFO waits for its other end, a device's driver does what it likes, and an
//! automount point mounts. `O_PATH` does none of this (open(2); `do_o_path`, fs/namei.c): what is found is
//! looked at, and only then opened, by its fd and not by its name, which may lead elsewhere by now.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, open, openat, statx};

/// A regular file that has been found, and not been opened.
#[derive(Debug)]
pub struct Regular {
    fd: OwnedFd,
    /// What makes it the same file, with the same content.
    pub key: Key,
    /// Whose it is.
    pub uid: u32,
    /// Its type and permissions.
    pub mode: u32,
}

/// See [`Regular::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    modified: (i64, u32),
}

impl Regular {
    /// What is at a path, if it is a regular file. Neither it nor its file system's server is asked for
    /// anything that is not known yet.
    pub fn find(at: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Self::of(openat(CWD, at, flags, Mode::empty())?)
    }

    /// The same, but for links: where the last one leads is its owner's choice.
    pub fn find_itself(at: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::of(openat(CWD, at, flags, Mode::empty())?)
    }

    /// The same of an `O_PATH` fd.
    pub fn of(fd: OwnedFd) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let found = statx(&fd, c"", flags, StatxFlags::BASIC_STATS)?;
        let mode = u32::from(found.stx_mode);
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Self {
            fd,
            key: Key {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                size: found.stx_size,
                modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            },
            uid: found.stx_uid,
            mode,
        })
    }

    /// Opens it for reading. A lease that somebody holds on it is not waited for.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Ok(open(path, flags, Mode::empty())?.into())
    }

    /// All of it, if it is at most so long.
    pub fn read(&self, at_most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(at_most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > at_most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}

impl AsFd for Regular {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkfifoat;

    use super::*;

    /// A folder of its own, removed when dropped.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("fdtrace-regular-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_regular_files_are_found() {
        let scratch = Scratch::new("kinds");
        let fifo = scratch.0.join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        std::os::unix::net::UnixListener::bind(scratch.0.join("socket")).unwrap();
        let link = scratch.0.join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for path in [
            &fifo,
            &link,
            &scratch.0.join("socket"),
            &scratch.0,
            Path::new("/dev/null"),
            Path::new("/dev/tty"),
            &scratch.0.join("nothing"),
        ] {
            assert!(Regular::find(path).is_err(), "{}", path.display());
        }
        // Somebody who writes would have been let in by whoever had opened it to read.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let writer = open(&fifo, flags, Mode::empty());
        assert_eq!(writer.unwrap_err(), rustix::io::Errno::NXIO);
    }

    #[test]
    fn what_is_read_is_what_was_found_and_no_more_than_wanted() {
        let scratch = Scratch::new("read");
        let path = scratch.0.join("file");
        fs::write(&path, "content").unwrap();
        let found = Regular::find(&path).unwrap();
        assert_eq!(found.key.size, 7);
        fs::rename(&path, scratch.0.join("other")).unwrap();
        mkfifoat(CWD, &path, Mode::RUSR).unwrap();
        assert_eq!(found.read(7).unwrap(), b"content");
        assert!(found.read(6).is_err());
    }
}
