//! `LimitNOFILE` in the files of a unit, as systemd reads them (systemd.unit(5), systemd.exec(5)): the unit's own file,
//! then drop-ins by their names, the last line that sets it counts.
//!
//! The files are below the root of the service manager, which may be a container's: no link in it leads out of it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::{
    diagnose::origin::{Nofile, UnitFile},
    enrich::regular::Regular,
};

/// No unit's file is larger.
const FILE_MAX: u64 = 256 << 10;
/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 1_024;
/// Bytes of an environment that are read.
const ENVIRONMENT_MAX: u64 = 64 << 10;

/// Where the host's manager looks for units, the first counts (`systemd.unit(5)`).
const SYSTEM: &[&str] = &[
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];
/// The same of a user's, without the user's own folders.
const USER: &[&str] = &[
    "etc/systemd/user",
    "run/systemd/user",
    "usr/local/lib/systemd/user",
    "usr/lib/systemd/user",
    "lib/systemd/user",
];

/// A service manager.
pub(super) struct Manager {
    /// Its root folder.
    pub(super) root: PathBuf,
    /// It is a user's own.
    pub(super) is_users: bool,
    /// Its user's home.
    pub(super) home: Option<String>,
}

/// `HOME` in the environment of a process, which it could have set to anything.
pub(super) fn home(pid: u32) -> Option<String> {
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut environment = Vec::new();
    let mut file = file.take(ENVIRONMENT_MAX);
    file.read_to_end(&mut environment).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let home = variables.find_map(|variable| variable.strip_prefix(b"HOME="))?;
    String::from_utf8(home.to_vec()).ok()
}

/// What the files of a unit say; `None` where there is no file of that name, or it is none that takes limits.
pub(super) fn read(manager: &Manager, unit: &str) -> Option<UnitFile> {
    let section = match unit.rsplit_once('.')?.1 {
        "service" => "[Service]",
        "socket" => "[Socket]",
        "mount" => "[Mount]",
        "swap" => "[Swap]",
        _ => return None,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &manager.root, flags, Mode::empty()).ok()?;
    let folders = folders(manager);
    let mut found = UnitFile {
        name: unit.to_owned(),
        ..UnitFile::default()
    };
    let defaults = if manager.is_users {
        "user.conf"
    } else {
        "system.conf"
    };
    let mut files = vec![format!("etc/systemd/{defaults}")];
    files.extend(drop_ins(
        &root,
        &["etc/systemd", "run/systemd", "usr/lib/systemd"],
        &[defaults],
    ));
    for path in files {
        let text = text(&root, &path).unwrap_or_default();
        take(&mut found, &path, &text, "[Manager]", "DefaultLimitNOFILE");
    }
    let names = [Some(unit.to_owned()), template(unit)];
    let mut own = names
        .iter()
        .flatten()
        .flat_map(|name| folders.iter().map(move |folder| format!("{folder}/{name}")));
    let (path, text) = own.find_map(|path| Some((path.clone(), text(&root, &path)?)))?;
    take(&mut found, &path, &text, section, "LimitNOFILE");
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let names = names_of_drop_ins(unit);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for path in drop_ins(&root, &folders, &names) {
        let text = self::text(&root, &path).unwrap_or_default();
        take(&mut found, &path, &text, section, "LimitNOFILE");
    }
    Some(found)
}

fn folders(manager: &Manager) -> Vec<String> {
    if !manager.is_users {
        return SYSTEM.iter().map(|folder| (*folder).to_owned()).collect();
    }
    let home = manager.home.as_deref().map(|home| home.trim_matches('/'));
    let below = |end: &str| home.map(|home| format!("{home}/{end}/systemd/user"));
    let own = [below(".config"), below(".local/share")];
    let others = USER.iter().map(|folder| (*folder).to_owned());
    own.into_iter().flatten().chain(others).collect()
}

/// `web@.service` of `web@a.service`.
fn template(unit: &str) -> Option<String> {
    let (stem, rest) = unit.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

/// Units whose drop-ins are this one's as well, without the `.d`: itself, its template, those with a shorter name up to
/// a dash, all of its kind.
fn names_of_drop_ins(unit: &str) -> Vec<String> {
    let mut names = vec![unit.to_owned()];
    names.extend(template(unit));
    let Some((stem, kind)) = unit.rsplit_once('.') else {
        return names;
    };
    let stem = stem.split('@').next().unwrap_or(stem);
    let dashes = stem.rmatch_indices('-').map(|(at, _)| at);
    let shorter = dashes.filter(|at| *at > 0 && at + 1 < stem.len());
    names.extend(
        shorter
            .take(16)
            .map(|at| format!("{}-.{kind}", &stem[..at])),
    );
    names.push(kind.to_owned());
    names
}

/// Drop-ins in their order: each name once, from the first folder that has it.
fn drop_ins(root: &OwnedFd, folders: &[&str], names: &[&str]) -> Vec<String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for name in names {
        for folder in folders {
            let folder = format!("{folder}/{name}.d");
            for file in entries(root, &folder) {
                if file.strip_suffix(".conf").is_some() {
                    let path = format!("{folder}/{file}");
                    files.entry(file).or_insert(path);
                }
            }
        }
    }
    files.into_values().collect()
}

fn resolve() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

fn entries(root: &OwnedFd, folder: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = openat2(root, folder, flags, Mode::empty(), resolve());
    let Some(entries) = folder.ok().and_then(|folder| Dir::new(folder).ok()) else {
        return Vec::new();
    };
    let entries = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    let names = entries.filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()));
    names.collect()
}

fn text(root: &OwnedFd, path: &str) -> Option<String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = openat2(root, Path::new(path), flags, Mode::empty(), resolve()).ok()?;
    let bytes = Regular::of(file).ok()?.read(FILE_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes in what one file says: the last of its lines counts, and an empty value takes back what came before.
fn take(found: &mut UnitFile, path: &str, text: &str, section: &str, setting: &str) {
    let mut is_in_section = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_in_section = line == section;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_in_section) else {
            continue;
        };
        if name.trim_end() != setting {
            continue;
        }
        let value = value.trim();
        if value.is_empty() {
            (found.limits, found.path) = (None, None);
        } else if let Some(limits) = limits(value) {
            (found.limits, found.path) = (Some(limits), Some(format!("/{path}")));
        }
    }
}

/// `SOFT:HARD`, or one value for both (`rlim_parse`, src/basic/rlimit-util.c).
fn limits(value: &str) -> Option<Nofile> {
    let number = |text: &str| match text.trim() {
        "infinity" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = (number(soft)?, number(hard)?);
    (soft <= hard).then_some(Nofile { soft, hard })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A root with these files, removed when dropped.
    struct Root(Manager);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("fdtrace-units-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&root);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(Manager {
                root,
                is_users: false,
                home: None,
            })
        }

        fn says(&self, unit: &str) -> Option<(Option<(u64, u64)>, String)> {
            let found = read(&self.0, unit)?;
            let limits = found.limits.map(|limits| (limits.soft, limits.hard));
            Some((limits, found.path.unwrap_or_default()))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    #[test]
    fn the_last_drop_in_counts_and_the_nearest_folder() {
        let root = Root::new(
            "order",
            &[
                (
                    "usr/lib/systemd/system/web.service",
                    "[Service]\nLimitNOFILE=100\n",
                ),
                (
                    "usr/lib/systemd/system/plain.service",
                    "[Unit]\nLimitNOFILE=9\n[Service]\n",
                ),
                (
                    "usr/lib/systemd/system/web.service.d/50.conf",
                    "[Service]\nLimitNOFILE=1:2",
                ),
                (
                    "etc/systemd/system/web.service.d/50.conf",
                    "[Service]\nLimitNOFILE = 300:infinity",
                ),
                (
                    "usr/lib/systemd/system/a-b@.service",
                    "[Service]\nLimitNOFILE=7",
                ),
                (
                    "etc/systemd/system/a-.service.d/z.conf",
                    "[Service]\n#LimitNOFILE=1\nLimitNOFILE=8",
                ),
                (
                    "etc/systemd/system/empty.service",
                    "[Service]\nLimitNOFILE=7\nLimitNOFILE=",
                ),
                (
                    "etc/systemd/system/bad.service",
                    "[Service]\nLimitNOFILE=7\nLimitNOFILE=2:1\nLimitNOFILE=x",
                ),
            ],
        );
        let at = |path: &str| format!("/{path}");
        let drop_in = at("etc/systemd/system/web.service.d/50.conf");
        assert_eq!(
            root.says("web.service"),
            Some((Some((300, u64::MAX)), drop_in))
        );
        assert_eq!(root.says("plain.service"), Some((None, String::new())));
        let drop_in = at("etc/systemd/system/a-.service.d/z.conf");
        assert_eq!(root.says("a-b@x.service"), Some((Some((8, 8)), drop_in)));
        assert_eq!(root.says("empty.service"), Some((None, String::new())));
        let own = at("etc/systemd/system/bad.service");
        assert_eq!(root.says("bad.service"), Some((Some((7, 7)), own)));
        assert_eq!(root.says("nothing.service"), None);
        assert_eq!(root.says("session-1.scope"), None);
    }

    #[test]
    fn the_default_of_all_units_counts_where_a_unit_sets_none() {
        let unit = "[Service]\nExecStart=/bin/true";
        let root = Root::new(
            "default",
            &[
                (
                    "etc/systemd/system.conf",
                    "[Manager]\nDefaultLimitNOFILE=5:6",
                ),
                ("etc/systemd/system/web.service", unit),
            ],
        );
        let path = "/etc/systemd/system.conf".to_owned();
        assert_eq!(root.says("web.service"), Some((Some((5, 6)), path)));
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let root = Root::new(
            "links",
            &[
                ("etc/systemd/system/a", ""),
                ("lib/real", "[Service]\nLimitNOFILE=3"),
            ],
        );
        let outside =
            std::env::temp_dir().join(format!("fdtrace-units-outside-{}", std::process::id()));
        fs::write(&outside, "[Service]\nLimitNOFILE=1").unwrap();
        let units = root.0.root.join("etc/systemd/system");
        symlink(&outside, units.join("out.service")).unwrap();
        symlink("/lib/real", units.join("in.service")).unwrap();
        let (out, own) = (root.says("out.service"), root.says("in.service"));
        fs::remove_file(&outside).unwrap();
        assert_eq!(out, None);
        let path = "/etc/systemd/system/in.service".to_owned();
        assert_eq!(own, Some((Some((3, 3)), path)), "as the container sees it");
    }
}
