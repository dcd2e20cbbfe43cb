//! The time zone that text is written in: what `TZ` names, else `/etc/localtime`, else UTC.
//!
//! jiff knows what zones mean; the files are read here, because it would read whatever `TZ` points to to its end, a
//! device or a FIFO included. Nothing is linked in: a static binary reads the host's `/usr/share/zoneinfo` as well.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use rustix::fs::OFlags;

/// Where zones are kept, the most usual place first; `TZDIR` comes before them.
const FOLDERS: [&str; 3] = [
    "usr/share/zoneinfo",
    "usr/lib/zoneinfo",
    "usr/share/lib/zoneinfo",
];
/// Bytes that are read of a file: the largest of tzdata's has 4 KiB.
const SIZE_MAX: u64 = 256 * 1024;

/// A zone, and how it was found.
#[derive(Debug)]
struct Zone {
    rules: TimeZone,
    /// `None`: nothing names it but the machine's own `/etc/localtime`.
    name: Option<String>,
    /// What was asked for and could not be had.
    problem: Option<String>,
}

impl Zone {
    fn utc() -> Self {
        Self {
            rules: TimeZone::UTC,
            name: Some("UTC".to_owned()),
            problem: None,
        }
    }
}

/// This process's; looked up once.
fn own() -> &'static Zone {
    static OWN: OnceLock<Zone> = OnceLock::new();
    OWN.get_or_init(|| {
        let folder = env::var_os("TZDIR").map(PathBuf::from);
        find(
            env::var_os("TZ").as_deref(),
            folder.as_deref(),
            Path::new("/"),
        )
    })
}

/// A moment as people here read it.
#[must_use]
pub fn local(time: Timestamp) -> Zoned {
    time.to_zoned(own().rules.clone())
}

/// Which zone that is, and how far it is from UTC at a moment: `Europe/Berlin, +01:00`.
#[must_use]
pub fn name_at(time: Timestamp) -> String {
    let offset = local(time).strftime("%:z").to_string();
    match own().name.as_deref() {
        Some("UTC") => "UTC".to_owned(),
        Some(name) => format!("{name}, {offset}"),
        None => offset,
    }
}

/// Why the zone is not the one that `TZ` asks for.
#[must_use]
pub fn problem() -> Option<&'static str> {
    own().problem.as_deref()
}

/// Looks a zone up as glibc does (`tzset(3)`): a file first, then a rule as in POSIX.
fn find(tz: Option<&OsStr>, folder: Option<&Path>, root: &Path) -> Zone {
    let Some(tz) = tz else {
        return of_machine(&root.join("etc/localtime")).unwrap_or_else(Zone::utc);
    };
    let Some(text) = tz.to_str() else {
        return not_found(&tz.to_string_lossy());
    };
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() {
        return Zone::utc();
    }
    let path = Path::new(name);
    let rules = if path.is_absolute() {
        read(path, name)
    } else {
        // No way out of the folders.
        let is_plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let folders = folder
            .map(Path::to_path_buf)
            .into_iter()
            .chain(FOLDERS.map(|folder| root.join(folder)));
        let mut files = folders.filter(|_| is_plain).map(|folder| folder.join(name));
        files.find_map(|file| read(&file, name))
    };
    match rules.or_else(|| TimeZone::posix(name).ok()) {
        Some(rules) => Zone {
            rules,
            name: Some(name.to_owned()),
            problem: None,
        },
        // It has a name everywhere, files or not.
        None if matches!(name, "UTC" | "UTC0" | "Etc/UTC" | "GMT") => Zone::utc(),
        None => not_found(text),
    }
}

fn not_found(text: &str) -> Zone {
    Zone {
        problem: Some(format!(
            "TZ={text} is no time zone that is known here (/usr/share/zoneinfo): times are in UTC"
        )),
        ..Zone::utc()
    }
}

/// `/etc/localtime`, most often a link that says which zone it is.
fn of_machine(path: &Path) -> Option<Zone> {
    let target = fs::read_link(path).ok();
    let target = target.as_deref().and_then(Path::to_str);
    let name = target.and_then(|target| Some(target.rsplit_once("zoneinfo/")?.1.to_owned()));
    let rules = read(path, name.as_deref().unwrap_or("local"))?;
    Some(Zone {
        rules,
        name,
        problem: None,
    })
}

/// Reads a file of zic's, if it is one: regular, and not too long.
fn read(path: &Path, name: &str) -> Option<TimeZone> {
    // Looked at before it is opened: opening a device can do things.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .ok()?;
    let mut bytes = Vec::new();
    let size = file.take(SIZE_MAX + 1).read_to_end(&mut bytes).ok()?;
    let is_whole = u64::try_from(size).is_ok_and(|size| size <= SIZE_MAX);
    TimeZone::tzif(name, &bytes).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests;
