//! Is an open file the one at a path, or below the directory there? By what it is, and not by what it is called: a file
//! has several names (hard links, bind mounts, containers), and one name leads to several files (mount namespaces).

mod links;

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open, stat};

use self::links::Links;
use crate::{
    enrich::{
        mounts::{Device, Mounts},
        process::folder,
    },
    ground::{file::OpenFile, kind::Kind},
};

/// A file or a directory that somebody asks about.
pub(super) struct At {
    /// Without symbolic links.
    path: PathBuf,
    is_directory: bool,
    /// The device as the kernel has it, and the inode number.
    device: Device,
    inode: u64,
    /// The same as stat(2) has it, where that says something else: on btrfs and overlayfs, where numbers of inodes are
    /// no proof.
    stat: Option<(u64, u64)>,
    /// Where on its file system it is.
    place: Option<PathBuf>,
    /// What is mounted at the directory or below it.
    below: HashSet<Device>,
    links: Links,
    namespaces: Namespaces,
}

impl At {
    /// Looks at what there is at a path.
    pub(super) fn new(path: &Path) -> Result<Self> {
        // Nothing is done to it: a FIFO or a device is not opened by this.
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("cannot look at {}", path.display()))?;
        let known = fstat(&file).with_context(|| format!("examining {}", path.display()))?;
        let canonical = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .unwrap_or_else(|_| path.to_path_buf());
        let namespaces = Namespaces::default();
        let of_stat = (major(known.st_dev), minor(known.st_dev));
        let mount = fdinfo(&file, "mnt_id:");
        let device = mount.and_then(|mount| namespaces.own.device(mount));
        let device = device.unwrap_or(of_stat);
        // Kernels before 5.14 do not tell the number.
        let inode = fdinfo(&file, "ino:").unwrap_or(known.st_ino);
        let is_same = device == of_stat && inode == known.st_ino;
        Ok(Self {
            is_directory: FileType::from_raw_mode(known.st_mode) == FileType::Directory,
            stat: (!is_same).then_some((known.st_dev, known.st_ino)),
            place: namespaces.own.locate(&canonical, device),
            below: namespaces.own.at_or_below(&canonical).collect(),
            links: Links::default(),
            namespaces,
            device,
            inode,
            path: canonical,
        })
    }

    /// Is it this file, or one below this directory?
    pub(super) fn has(&mut self, file: &OpenFile) -> bool {
        if file.kind == Kind::Unix {
            // A socket has no inode but its own: what it is bound to is a name.
            return self.is_called(file) && self.namespaces.is_own(file.tgid);
        }
        if file.device == self.device && file.inode == self.inode {
            return self.is_same(file);
        }
        if !self.is_directory {
            return false;
        }
        let is_on_it = file.device == self.device;
        let has_name = self.is_called(file) && (is_on_it || self.below.contains(&file.device));
        has_name && self.namespaces.is_own(file.tgid)
            || is_on_it && (self.is_below(file) || self.links.has(&self.path, file))
    }

    fn is_called(&self, file: &OpenFile) -> bool {
        let target = target(file);
        if self.is_directory {
            target.starts_with(&self.path)
        } else {
            target == self.path
        }
    }

    /// Numbers that are no proof are asked for once more, of the open file itself.
    fn is_same(&self, file: &OpenFile) -> bool {
        let Some(known) = self.stat else {
            return true;
        };
        let link = format!("/proc/{}/task/{}/fd/{}", file.tgid, file.tid, file.fd);
        // One that has been closed meanwhile has been the one, as far as anybody can tell.
        stat(link).is_ok_and(|found| (found.st_dev, found.st_ino) == known)
    }

    /// By its place on the file system, through whichever mount it was opened.
    fn is_below(&mut self, file: &OpenFile) -> bool {
        let Some(directory) = &self.place else {
            return false;
        };
        let mounts = self.namespaces.of(file.tgid);
        let place = mounts.and_then(|mounts| mounts.locate(target(file), self.device));
        place.is_some_and(|place| place.starts_with(directory))
    }
}

fn target(file: &OpenFile) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(&file.target))
}

/// A number of an fd's fdinfo (`seq_show` in fs/proc/fd.c).
fn fdinfo(file: &OwnedFd, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
}

/// The mount namespaces of processes, each read once.
struct Namespaces {
    own_name: Option<PathBuf>,
    own: Mounts,
    /// By process; `None`: it cannot be told, as of one that has ended.
    names: HashMap<u32, Option<PathBuf>>,
    others: HashMap<PathBuf, Mounts>,
}

impl Default for Namespaces {
    fn default() -> Self {
        let own = std::process::id();
        Self {
            own_name: name(own),
            own: Mounts::of(own).unwrap_or_default(),
            names: HashMap::new(),
            others: HashMap::new(),
        }
    }
}

impl Namespaces {
    fn name(&mut self, pid: u32) -> Option<&PathBuf> {
        self.names.entry(pid).or_insert_with(|| name(pid)).as_ref()
    }

    /// Does a process see the same mounts as fdtrace? One that has ended is taken to have.
    fn is_own(&mut self, pid: u32) -> bool {
        let own = self.own_name.clone();
        self.name(pid).is_none_or(|name| Some(name) == own.as_ref())
    }

    fn of(&mut self, pid: u32) -> Option<&Mounts> {
        if self.is_own(pid) {
            return Some(&self.own);
        }
        let name = self.name(pid)?.clone();
        if !self.others.contains_key(&name) {
            self.others.insert(name.clone(), Mounts::of(pid)?);
        }
        self.others.get(&name)
    }
}

fn name(pid: u32) -> Option<PathBuf> {
    fs::read_link(folder(pid).join("ns/mnt")).ok()
}

#[cfg(test)]
mod tests;
