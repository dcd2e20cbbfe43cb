//! What a mount namespace has mounted where: whether two names in two namespaces are one place on one file system.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::process::folder;

/// Bytes of a mountinfo that are read: a hundred thousand mounts (`fs.mount-max`) have fewer.
const SIZE_MAX: u64 = 32 << 20;

/// Major and minor number of a file system's device, as the kernel has it (`s_dev`). What stat(2) says of files on
/// btrfs and overlayfs is another one.
pub type Device = (u32, u32);

/// The mounts of one namespace, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    device: Device,
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

impl Mounts {
    /// Those that a process sees; `None` where they cannot be read, as when it has ended.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let file = File::open(folder(pid).join("mountinfo")).ok()?;
        let mut text = Vec::new();
        file.take(SIZE_MAX).read_to_end(&mut text).ok()?;
        Some(Self::parse(&text))
    }

    /// The text of a mountinfo (`proc_pid_mountinfo(5)`); lines that are not whole are left out.
    fn parse(text: &[u8]) -> Self {
        Self(
            text.split(|byte| *byte == b'\n')
                .filter_map(mount)
                .collect(),
        )
    }

    /// The device of the file system behind a mount.
    #[must_use]
    pub fn device(&self, id: u64) -> Option<Device> {
        let mount = self.0.iter().find(|mount| mount.id == id)?;
        Some(mount.device)
    }

    /// Where on its file system a file is that is called `path` here.
    #[must_use]
    pub fn locate(&self, path: &Path, device: Device) -> Option<PathBuf> {
        let mounts = self.0.iter().filter(|mount| mount.device == device);
        let (mount, below) = mounts
            .filter_map(|mount| Some((mount, path.strip_prefix(&mount.point).ok()?)))
            // Of several at one place the last one covers the others, and `max_by_key` takes the last.
            .max_by_key(|(mount, _)| mount.point.components().count())?;
        Some(mount.root.join(below))
    }

    /// The devices of what is mounted at a path or below it.
    pub fn at_or_below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = Device> + 'a {
        let mounts = self
            .0
            .iter()
            .filter(move |mount| mount.point.starts_with(path));
        mounts.map(|mount| mount.device)
    }
}

/// Number, parent, device, root, mount point, and what nobody here asks for.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = |field: Option<&[u8]>| str::from_utf8(field?).ok()?.parse().ok();
    let id = number(fields.next())?;
    let device = str::from_utf8(fields.nth(1)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    Some(Mount {
        id,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: path(fields.next()?),
        point: path(fields.next()?),
    })
}

/// Spaces, tabs, line ends and backslashes stand in it as `\` and three octal digits (`mangle`, `fs/proc_namespace.c`).
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, left @ ..] = rest {
        let digits = left.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            bytes.push(byte);
            rest = &left[3..];
        } else {
            bytes.push(*first);
            rest = left;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = br"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw - devtmpfs udev rw
30 21 8:2 / /srv rw - ext4 /dev/sdb1 rw
31 21 8:2 /data /mnt/with\040space rw - ext4 /dev/sdb1 rw
broken
32 21 8 / /x rw - ext4 none rw
";
    /// Of a container: its root is an overlay, and a folder of the host's is mounted in it.
    const CONTAINER: &[u8] = b"90 80 0:50 / / rw - overlay overlay rw
91 90 8:2 /data/web /data rw - ext4 /dev/sdb1 rw
92 90 8:2 /data/api /data rw - ext4 /dev/sdb1 rw
";

    fn located(mounts: &[u8], path: &str, device: Device) -> Option<String> {
        let place = Mounts::parse(mounts).locate(Path::new(path), device)?;
        Some(place.to_str()?.to_owned())
    }

    #[test]
    fn one_place_has_many_names() {
        for (mounts, name) in [
            (HOST, "/srv/data/api/x.log"),
            (HOST, "/mnt/with space/api/x.log"),
            (CONTAINER, "/data/x.log"),
        ] {
            let place = located(mounts, name, (8, 2));
            assert_eq!(place.as_deref(), Some("/data/api/x.log"), "{name}");
        }
    }

    #[test]
    fn a_name_of_another_file_system_is_no_place_on_this_one() {
        assert_eq!(located(HOST, "/etc/passwd", (8, 2)), None);
        assert_eq!(
            located(HOST, "/etc/passwd", (8, 1)).as_deref(),
            Some("/etc/passwd")
        );
        assert_eq!(
            located(CONTAINER, "/etc/passwd", (0, 50)).as_deref(),
            Some("/etc/passwd")
        );
    }

    #[test]
    fn lines_that_are_not_whole_are_left_out() {
        let mounts = Mounts::parse(HOST);
        assert_eq!(mounts.0.len(), 4);
        assert_eq!(mounts.device(31), Some((8, 2)));
        assert_eq!(mounts.device(32), None);
        let below: Vec<_> = mounts.at_or_below(Path::new("/mnt")).collect();
        assert_eq!(below, [(8, 2)]);
    }
}
