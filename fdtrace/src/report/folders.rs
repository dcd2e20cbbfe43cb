//! Where the different files of a group lie, in words and as JSON.

use serde::Serialize;

use super::{json, sanitize::printable};
use crate::{
    diagnose::holders::{
        Holder,
        folders::{Folder, Folders},
    },
    ground::kind::Kind,
};

/// Different inodes are counted up to here.
const COUNTED: u32 = 1_000;

/// All that is to be said in a line, where one folder has nearly all files, as far as they were looked at.
#[must_use]
pub(super) fn one(holder: &Holder) -> Option<String> {
    let folders = holder.folders.as_ref()?;
    let first = folders.most.first().filter(|_| !are_several(folders))?;
    let things = match holder.kind {
        Kind::File => "files",
        Kind::Dir => "directories",
        Kind::Char | Kind::Block => "devices",
        _ => "things",
    };
    let number = number(holder);
    let name = holder.target.as_deref().filter(|_| !first.is_file);
    let name = name.map_or_else(String::new, |name| format!(" called {}", printable(name)));
    let (deleted, place) = (deleted(first), place(first));
    let looked_at = (folders.looked_at < holder.count).then_some(folders.looked_at);
    Some(match (first.count == folders.looked_at, looked_at) {
        (true, None) => format!("{number}{deleted} {things}{name} {place}"),
        (true, Some(some)) => format!("{number}{deleted} {things}{name} {place}, {some} looked at"),
        (false, None) => format!("{number} {things}{name}, {}{deleted} {place}", first.count),
        (false, Some(some)) => {
            format!(
                "{number} {things}{name}, {} of {some} looked at{deleted} {place}",
                first.count
            )
        }
    })
}

/// Each of several folders, and what is in none of them.
#[must_use]
pub(super) fn several(holder: &Holder) -> Vec<String> {
    let Some(folders) = holder
        .folders
        .as_ref()
        .filter(|folders| are_several(folders))
    else {
        return Vec::new();
    };
    let of_how_many = match folders.looked_at {
        some if some < holder.count => format!(" of {some}"),
        _ => String::new(),
    };
    let mut left = folders.looked_at;
    let mut lines = Vec::new();
    for folder in &folders.most {
        left = left.saturating_sub(folder.count);
        let (deleted, place) = (deleted(folder), place(folder));
        lines.push(format!("{}{of_how_many}{deleted} {place}", folder.count));
    }
    if left > 0 {
        lines.push(format!("{left}{of_how_many} elsewhere"));
    }
    lines
}

/// Is no folder that of nearly all?
fn are_several(folders: &Folders) -> bool {
    let first = folders.most.first();
    first.is_some_and(|first| first.count < folders.looked_at - folders.looked_at / 4)
}

fn deleted(folder: &Folder) -> String {
    match folder.deleted {
        0 => String::new(),
        all if all == folder.count => " deleted".to_owned(),
        some => format!(" ({some} deleted)"),
    }
}

/// How many different files.
fn number(holder: &Holder) -> String {
    if holder.targets < COUNTED && holder.inodes >= COUNTED {
        return format!("{COUNTED} or more");
    }
    holder.targets.max(holder.inodes).to_string()
}

fn place(folder: &Folder) -> String {
    let path = printable(&folder.path);
    match &folder.pattern {
        _ if folder.is_file => format!("at {path}"),
        Some(pattern) => format!("below {path} ({})", printable(pattern)),
        None => format!("below {path}"),
    }
}

/// One folder.
#[derive(Serialize)]
pub(super) struct FolderFields {
    path: String,
    pattern: Option<String>,
    count: u32,
    deleted: u32,
}

/// All folders of a group; `None`: it leads to one thing, or nobody has looked.
pub(super) fn fields(holder: &Holder) -> Option<Vec<FolderFields>> {
    let folders = holder.folders.as_ref()?.most.iter();
    let fields = folders.map(|folder| FolderFields {
        path: json::text(&folder.path),
        pattern: folder.pattern.as_deref().map(json::text),
        count: folder.count,
        deleted: folder.deleted,
    });
    Some(fields.collect())
}

/// The folder that all of them lie in.
pub(super) fn below(holder: &Holder) -> Option<String> {
    let only = holder.folders.as_ref()?.only()?;
    (!only.is_file).then(|| json::text(&only.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    fn holder(count: u32, paths: &[&str]) -> Holder {
        let paths = paths.iter().map(|path| path.as_bytes());
        Holder {
            kind: Kind::File,
            target: None,
            states: Vec::new(),
            targets: count,
            count,
            inodes: count.min(COUNTED),
            inherited: 0,
            oldest_ns: None,
            newest_ns: None,
            example: (0, 0),
            files: Vec::new(),
            folders: Some(Folders::of(paths)),
            openers: Vec::new(),
        }
    }

    #[test]
    fn one_folder_is_told_in_the_row_itself() {
        let told = |count, paths: &[&str]| {
            let holder = holder(count, paths);
            assert_eq!(several(&holder), [""; 0]);
            one(&holder).unwrap()
        };
        let deleted = ["/s/m1 (deleted)", "/s/m22 (deleted)", "/s/m3 (deleted)"];
        assert_eq!(told(3, &deleted), "3 deleted files below /s");
        let tables = ["/db/a.ibd", "/db/b.ibd (deleted)", "/db/c.ibd"];
        assert_eq!(told(3, &tables), "3 (1 deleted) files below /db (*.ibd)");
        assert_eq!(
            told(9_000, &["/db/a.ibd", "/db/b.ibd", "/db/c.ibd"]),
            "9000 files below /db (*.ibd), 3 looked at"
        );
        let again = ["/log/a (deleted)"; 4];
        assert_eq!(told(4, &again), "4 deleted files at /log/a");
        let same_name = Holder {
            target: Some(b"stat".to_vec()),
            targets: 1,
            ..holder(3, &["/proc/1/stat", "/proc/2/stat", "/proc/3/stat"])
        };
        assert_eq!(
            one(&same_name).as_deref(),
            Some("3 files called stat below /proc")
        );
    }

    #[test]
    fn several_folders_add_up() {
        let paths = [
            "/a/x/1", "/a/x/2", "/a/x/3", "/b/y/1", "/b/y/2", "/b/y/3", "/c",
        ];
        let all = holder(7, &paths);
        assert_eq!(one(&all), None);
        assert_eq!(
            several(&all),
            ["3 below /b/y", "3 below /a/x", "1 elsewhere"]
        );
        let sample = holder(70, &paths);
        assert_eq!(
            several(&sample),
            ["3 of 7 below /b/y", "3 of 7 below /a/x", "1 of 7 elsewhere"]
        );
        assert!(several(&holder(2, &["/a", "/b/c"])).is_empty());
        let most = holder(8, &[&["/b/y/4"; 1][..], &paths].concat());
        assert_eq!(several(&most)[0], "4 below /b/y");
    }

    #[test]
    fn a_few_elsewhere_are_no_folder() {
        let mut paths = vec!["/etc/passwd (deleted)"];
        paths.extend([
            "/s/m1 (deleted)",
            "/s/m22 (deleted)",
            "/s/m3 (deleted)",
            "/s/n",
        ]);
        let told = |count| one(&holder(count, &paths)).unwrap();
        assert_eq!(told(5), "5 files, 4 (3 deleted) below /s");
        assert_eq!(told(9), "9 files, 4 of 5 looked at (3 deleted) below /s");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        let paths =
            ["/a\x1b[2J/1", "/a\x1b[2J/2", "/a\x1b[2J/3"].map(|path| path.replace("\\x1b", "\x1b"));
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let told = one(&holder(3, &paths)).unwrap();
        assert!(
            told.contains("below /a") && !told.contains('\x1b'),
            "{told}"
        );
    }
}
