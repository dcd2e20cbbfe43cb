//! Finding cgroups of the v2 hierarchy by the paths that people type.

use std::{
    cell::RefCell,
    collections::HashSet,
    ffi::OsString,
    fs::File,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
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

/// The inode of the first cgroup namespace (`PROC_CGROUP_INIT_INO` in `include/linux/proc_ns.h`).
const FIRST_NAMESPACE: u64 = 0xefff_fffb;

/// A cgroup that was asked for, and was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its directory: whatever is made there later is the same cgroup to whom it was asked for.
    pub directory: PathBuf,
    /// Its path from the root of the hierarchy, as the kernel's tracepoints tell it; `None` where that cannot be known,
    /// as in a cgroup namespace.
    pub path: Option<Vec<u8>>,
}

/// Where the v2 hierarchy is mounted; `None` where it is not (cgroup v1 only).
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let mounts = mounts(&std::fs::read("/proc/self/mountinfo").ok()?);
    Some(mounts.into_iter().next()?.point)
}

/// One mount of the v2 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The cgroup that is seen there.
    root: Vec<u8>,
    /// Where.
    point: PathBuf,
}

/// Those of a mountinfo (`proc_pid_mountinfo(5)`), in its order.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let separator = line.windows(3).position(|part| part == b" - ")?;
        if !line[separator..].starts_with(b" - cgroup2 ") {
            return None;
        }
        let mut fields = line[..separator].split(|byte| *byte == b' ');
        let root = unescaped(fields.nth(3)?);
        let point = OsString::from_vec(unescaped(fields.next()?));
        Some(Mount {
            root,
            point: point.into(),
        })
    };
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(mount).collect()
}

/// A field of a mountinfo, where space, tab, newline and backslash are octal numbers (`mangle_path` in
/// `fs/seq_file.c`).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &others[3..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

/// The path of a cgroup's directory from the root of the hierarchy, by the mount in which it lies.
fn path_in(mounts: &[Mount], directory: &Path) -> Option<Vec<u8>> {
    let below = |mount: &Mount| {
        let rest = directory.strip_prefix(&mount.point).ok()?;
        let root = mount.root.strip_suffix(b"/").unwrap_or(&mount.root);
        let path = match rest.as_os_str().as_bytes() {
            b"" => root.to_vec(),
            rest => [root, rest].join(&b'/'),
        };
        Some((mount.point.as_os_str().len(), path))
    };
    // Of mounts at one place the last one is seen.
    let (_, path) = mounts
        .iter()
        .filter_map(below)
        .max_by_key(|(length, _)| *length)?;
    Some(path)
}

/// Finds a cgroup that was asked for: an absolute path, or one below the hierarchy's mount.
pub fn find(path: &Path) -> Result<Asked> {
    let directory = open(path)?;
    let directory = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .with_context(|| format!("finding the directory of the cgroup {}", path.display()))?;
    let namespace = std::fs::metadata("/proc/self/ns/cgroup");
    // Kernels without such namespaces have no file there.
    let is_first = namespace.map_or(true, |namespace| namespace.ino() == FIRST_NAMESPACE);
    let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let path = is_first.then(|| path_in(&mounts(&mountinfo), &directory));
    Ok(Asked {
        directory,
        path: path.flatten(),
    })
}

/// The ids of a cgroup and of all below it, as they are now; none where it has gone.
#[must_use]
pub fn ids(directory: &Path) -> Vec<u64> {
    // A directory's inode number is the cgroup's id (`kernfs_ino` in `include/linux/kernfs.h`, 5.5 to 7.2).
    let groups = subtree(directory.to_path_buf());
    groups
        .filter_map(|group| Some(std::fs::metadata(group).ok()?.ino()))
        .collect()
}

/// A cgroup's directory and those of all below it.
fn subtree(root: PathBuf) -> impl Iterator<Item = PathBuf> {
    let mut waiting = vec![root];
    std::iter::from_fn(move || {
        let group = waiting.pop()?;
        let entries = std::fs::read_dir(&group).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(below.map(|entry| entry.path()));
        Some(group)
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

/// The inode of the directory of the hierarchy's root (`cgroup_setup_root` in `kernel/cgroup/cgroup.c`, 5.10 to 7.2:
/// it is the first one of its file system).
const ROOT_INODE: u64 = 1;

thread_local! {
    /// The hierarchy's root as this thread's cgroup namespace calls it: `/`, or in a private one `/..` and so on.
    static ROOT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The v2 cgroup of a process; `None` where it cannot be read, as when the process has gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<Vec<u8>> {
    let hierarchies = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    ROOT.with_borrow(|root| v2_path(&hierarchies, root))
}

/// The same, from the bytes of the file (`cgroups(7)`); hierarchy 0 is the v2 one. A path that leads out of the
/// reader's cgroup namespace begins as the hierarchy's root does there; otherwise it does not say where it is, and is
/// none.
fn v2_path(hierarchies: &[u8], root: &[u8]) -> Option<Vec<u8>> {
    let mut lines = hierarchies.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    let is_outside = |path: &[u8]| path == b"/.." || path.starts_with(b"/../");
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let path = match path.strip_prefix(root) {
        Some(b"") => b"/",
        Some(below) if below.starts_with(b"/") => below,
        _ => path,
    };
    (!is_outside(path)).then(|| path.to_vec())
}

/// Has this thread read the paths of cgroups from the root of the hierarchy on, as the kernel programs do: /proc shows
/// them from the reader's cgroup namespace, which in a container is most often a private one (`cgroup_namespaces(7)`).
///
/// Commands that this thread starts would see them so too: not for one that does. Where it is not allowed, paths that
/// lead out of the namespace are those of the hierarchy if its root is mounted here, and paths within the namespace stay
/// what they are.
pub fn read_from_root() {
    let own = std::fs::read_link("/proc/thread-self/ns/cgroup");
    let first = std::fs::read_link("/proc/1/ns/cgroup");
    if let (Ok(own), Ok(first)) = (&own, &first)
        && own != first
        && let Ok(namespace) = File::open("/proc/1/ns/cgroup")
    {
        let kind = Some(LinkNameSpaceType::ControlGroup);
        if let Err(error) = move_into_link_name_space(namespace.as_fd(), kind) {
            debug!("cgroups are read from fdtrace's own cgroup namespace: {error}");
        }
    }
    let root = std::fs::read("/proc/thread-self/mountinfo")
        .ok()
        .and_then(|mountinfo| {
            let is_root = |mount: &Mount| {
                std::fs::metadata(&mount.point).is_ok_and(|point| point.ino() == ROOT_INODE)
            };
            Some(mounts(&mountinfo).into_iter().find(is_root)?.root)
        });
    ROOT.set(root.unwrap_or_default());
}

/// The cgroups of this name below a folder.
#[must_use]
pub fn named(root: &Path, name: &str) -> Vec<PathBuf> {
    let is_it = |folder: &PathBuf| folder.file_name().is_some_and(|it| it == name);
    subtree(root.to_owned()).filter(is_it).collect()
}

/// The processes in a cgroup and below it, as they are now.
pub fn members(path: &Path) -> Result<Vec<u32>> {
    let directory = open(path)?;
    // The descriptor names the directory, however it was given.
    let root = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let mut members = Vec::new();
    for group in subtree(root.clone()) {
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

    const MOUNTS: &[u8] = b"\
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw
40 25 0:40 / /not/\xff\xfe rw - tmpfs tmpfs rw
41 25 0:28 /a/b /srv/two\\040words rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_v2_mounts_are_found_among_others() {
        let found = mounts(MOUNTS);
        let points: Vec<_> = found.iter().map(|mount| mount.point.as_path()).collect();
        let expected = ["/sys/fs/cgroup/unified", "/srv/two words"];
        assert_eq!(points, expected.map(Path::new));
        assert_eq!(mounts(b"31 30 0:27 / /a rw - cgroup cgroup rw,cpu\n"), []);
    }

    #[test]
    fn a_directory_is_a_path_from_the_hierarchys_root() {
        let path = |directory: &str| {
            let path = path_in(&mounts(MOUNTS), Path::new(directory))?;
            Some(String::from_utf8(path).unwrap())
        };
        let of_unified = path("/sys/fs/cgroup/unified/system.slice/x.service");
        assert_eq!(of_unified.as_deref(), Some("/system.slice/x.service"));
        assert_eq!(path("/srv/two words/c").as_deref(), Some("/a/b/c"));
        assert_eq!(path("/srv/two words").as_deref(), Some("/a/b"));
        assert_eq!(path("/sys/fs/cgroup/cpu/x"), None);
    }

    #[test]
    fn a_process_is_in_one_v2_cgroup() {
        let mixed = b"9:name=systemd:/a\n1:cpu:/b\n0::/system.slice/x.service\n";
        let path = |text: &[u8], root: &[u8]| {
            let path = v2_path(text, root)?;
            Some(String::from_utf8(path).unwrap())
        };
        let found = path(mixed, b"/");
        assert_eq!(found.as_deref(), Some("/system.slice/x.service"));
        assert_eq!(path(b"1:cpu:/b\n", b"/"), None, "v1 only");
        assert_eq!(
            path(b"0::/../../x\n", b""),
            None,
            "from a namespace that it is not in"
        );
        assert_eq!(path(b"0::/..x\n", b"").as_deref(), Some("/..x"));
    }

    #[test]
    fn a_path_that_leads_out_of_a_namespace_begins_at_the_root_that_is_mounted() {
        let path = |text: &[u8]| {
            let path = v2_path(text, b"/../..")?;
            Some(String::from_utf8(path).unwrap())
        };
        assert_eq!(path(b"0::/../../x/y\n").as_deref(), Some("/x/y"));
        assert_eq!(path(b"0::/../..\n").as_deref(), Some("/"));
        assert_eq!(path(b"0::/../../..x\n").as_deref(), Some("/..x"));
        assert_eq!(path(b"0::/../x\n"), None, "beside the namespace's root");
        assert_eq!(path(b"0::/x\n").as_deref(), Some("/x"));
    }
}
