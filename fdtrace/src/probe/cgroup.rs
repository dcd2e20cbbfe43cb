//! Finding cgroups of the v2 hierarchy by the paths that people type.

use std::{
    collections::HashSet,
    fs::File,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use log::debug;
use rustix::{
    fs::{Mode, OFlags, fstatfs, open as open_fd},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `CGROUP2_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Where the v2 hierarchy is mounted; `None` where it is not (cgroup v1 only).
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    mount_point_in(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The same, from the text of a mountinfo (`proc_pid_mountinfo(5)`).
fn mount_point_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let is_cgroup2 = rest.split(' ').next() == Some("cgroup2");
        is_cgroup2.then(|| fields.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Opens a cgroup given as an absolute path, or as one below the hierarchy's mount.
pub fn open(path: &Path) -> Result<File> {
    let Some(mount) = mount_point() else {
        bail!(
            "--cgroup needs the cgroup v2 hierarchy, and it is not mounted here: \
             mount it (mount -t cgroup2 none /sys/fs/cgroup), or give --pid"
        );
    };
    let below = mount.join(path.strip_prefix("/").unwrap_or(path));
    let candidates = [path.is_absolute().then(|| path.to_path_buf()), Some(below)];
    for candidate in candidates.into_iter().flatten() {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let Ok(directory) = open_fd(&candidate, flags, Mode::empty()) else {
            continue;
        };
        let kind =
            fstatfs(&directory).with_context(|| format!("examining {}", candidate.display()))?;
        if kind.f_type == CGROUP2_MAGIC {
            return Ok(File::from(directory));
        }
    }
    bail!(
        "no cgroup {}: give a directory of {}, or a path below it",
        path.display(),
        mount.display(),
    )
}

/// The v2 cgroup of a process; `None` where it cannot be read, as when the process has gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<Vec<u8>> {
    v2_path(&std::fs::read(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The same, from the bytes of the file (`cgroups(7)`); hierarchy 0 is the v2 one. A path that leads out of the
/// reader's cgroup namespace does not say where it is, and is none.
fn v2_path(hierarchies: &[u8]) -> Option<Vec<u8>> {
    let mut lines = hierarchies.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    let is_outside = path == b"/.." || path.starts_with(b"/../");
    (!is_outside).then(|| path.to_vec())
}

/// Has this thread read the paths of cgroups from the root of the hierarchy on, as the kernel programs do: /proc shows
/// them from the reader's cgroup namespace, which in a container is most often a private one (`cgroup_namespaces(7)`).
///
/// Commands that this thread starts would see them so too: not for one that does. Where it is not allowed, paths within
/// the namespace stay what they are.
pub fn read_from_root() {
    let own = std::fs::read_link("/proc/thread-self/ns/cgroup");
    let first = std::fs::read_link("/proc/1/ns/cgroup");
    if let (Ok(own), Ok(first)) = (own, first)
        && own != first
        && let Ok(namespace) = File::open("/proc/1/ns/cgroup")
    {
        let kind = Some(LinkNameSpaceType::ControlGroup);
        if let Err(error) = move_into_link_name_space(namespace.as_fd(), kind) {
            debug!("cgroups are read from fdtrace's own cgroup namespace: {error}");
        }
    }
}

/// The processes in a cgroup and below it, as they are now.
pub fn members(path: &Path) -> Result<Vec<u32>> {
    let directory = open(path)?;
    // The descriptor names the directory, however it was given.
    let root = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let mut members = Vec::new();
    let mut waiting = vec![root.clone()];
    while let Some(group) = waiting.pop() {
        let processes = match std::fs::read_to_string(group.join("cgroup.procs")) {
            Ok(processes) => processes,
            // It has been removed meanwhile, or has threads only, whose processes are listed above it.
            Err(_) if group != root => continue,
            Err(error) => {
                let what = || format!("reading the members of {}", path.display());
                return Err(error).with_context(what);
            }
        };
        members.extend(processes.lines().filter_map(|pid| pid.parse::<u32>().ok()));
        let entries = std::fs::read_dir(&group).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(below.map(|entry| entry.path()));
    }
    Ok(members)
}

/// The processes in any of these cgroups; `None` where none was given.
pub fn all_members(paths: &[PathBuf]) -> Result<Option<HashSet<u32>>> {
    if paths.is_empty() {
        return Ok(None);
    }
    let mut all = HashSet::new();
    for path in paths {
        all.extend(members(path)?);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_among_v1_mounts() {
        let mountinfo = "\
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw
";
        assert_eq!(
            mount_point_in(mountinfo),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(
            mount_point_in("31 30 0:27 / /a rw - cgroup cgroup rw,cpu\n"),
            None
        );
    }

    #[test]
    fn a_process_is_in_one_v2_cgroup() {
        let mixed = b"9:name=systemd:/a\n1:cpu:/b\n0::/system.slice/x.service\n";
        assert_eq!(v2_path(mixed), Some(b"/system.slice/x.service".to_vec()));
        assert_eq!(v2_path(b"1:cpu:/b\n"), None, "v1 only");
        assert_eq!(
            v2_path(b"0::/../../x\n"),
            None,
            "from a namespace that it is not in"
        );
        assert_eq!(v2_path(b"0::/..x\n"), Some(b"/..x".to_vec()));
    }
}
