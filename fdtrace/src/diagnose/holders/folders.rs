//! Where different files lie: the folders, and the patterns of names, that say most of them in few words. Pure.

use rustc_hash::FxHashMap;

/// Folders told of a group of files.
const FOLDERS_MAX: usize = 3;
/// One is told where so many of the files lie there at least.
const FILES_MIN: usize = 3;
/// Folders below folders that are looked at.
const DEPTH_MAX: usize = 32;
/// Longest ending of a name that makes a pattern, with its dot.
const ENDING_MAX: usize = 10;
/// Shortest beginning of a name that makes one.
const BEGINNING_MIN: usize = 2;
/// What `/proc` and the kernel put behind the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// Where the files of a group lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Fds whose paths were looked at.
    pub looked_at: u32,
    /// The folders, that of the most files first.
    pub most: Vec<Folder>,
}

/// Files that lie in one folder, or below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder. Untrusted text.
    pub path: Vec<u8>,
    /// It is no folder but the path of each of these files: one that was made anew again and again.
    pub is_file: bool,
    /// What all their names look like, with one asterisk: `*.ibd`, `msg*`. Untrusted text.
    pub pattern: Option<Vec<u8>>,
    /// Fds that lead there, of those that were looked at.
    pub count: u32,
    /// Those of them whose file has been deleted.
    pub deleted: u32,
}

impl Folders {
    /// Are most of the files that were looked at deleted ones?
    #[must_use]
    pub fn are_deleted(&self) -> bool {
        let deleted: u32 = self.most.iter().map(|folder| folder.deleted).sum();
        deleted > self.looked_at / 2
    }

    /// The folders of files of these paths, of as many fds. A path that is none is in no folder.
    #[must_use]
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut left: Vec<_> = paths.into_iter().map(File::new).collect();
        let looked_at = left.len();
        let least = FILES_MIN.max(looked_at / 20);
        let mut most = Vec::new();
        while most.len() < FOLDERS_MAX
            && let Some(best) = best(&left, least)
        {
            let (inside, outside) = left.into_iter().partition(|file| best.has(file));
            left = outside;
            most.push(folder(&best, &inside));
        }
        most.sort_by_key(|folder| std::cmp::Reverse(folder.count));
        Self {
            looked_at: count(looked_at),
            most,
        }
    }

    /// The folder that all lie in which were looked at.
    #[must_use]
    pub fn only(&self) -> Option<&Folder> {
        self.most
            .first()
            .filter(|folder| folder.count == self.looked_at)
    }
}

/// A path, and whether the file still has it.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a [u8],
    is_deleted: bool,
}

impl<'a> File<'a> {
    fn new(path: &'a [u8]) -> Self {
        let name = path.strip_suffix(DELETED);
        Self {
            path: name.unwrap_or(path),
            is_deleted: name.is_some(),
        }
    }

    /// Ends of its folders in its path, the outermost first, without the root.
    fn folders(&self) -> impl Iterator<Item = usize> + use<'a> {
        let bytes = self.path.iter().enumerate().skip(2);
        let slashes = bytes.filter(|(_, byte)| **byte == b'/');
        let is_path = self.path.starts_with(b"/");
        slashes
            .map(|(end, _)| end)
            .take(if is_path { DEPTH_MAX } else { 0 })
    }

    fn name(&self) -> &'a [u8] {
        let mut parts = self.path.rsplitn(2, |byte| *byte == b'/');
        parts.next().unwrap_or_default()
    }

    /// From the last dot on, where that looks like what a program calls a kind of file.
    fn ending(&self) -> Option<&'a [u8]> {
        let name = self.name();
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        let ending = name.get(dot..)?;
        let kind = ending.get(1..)?;
        let is_kind = dot > 0
            && ending.len() <= ENDING_MAX
            && kind.iter().all(u8::is_ascii_alphanumeric)
            && !kind.iter().all(u8::is_ascii_digit);
        is_kind.then_some(ending)
    }
}

/// Files below one folder, of any name or of one ending; or all of one path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place<'a> {
    path: &'a [u8],
    ending: Option<&'a [u8]>,
}

impl Place<'_> {
    fn has(&self, file: &File<'_>) -> bool {
        let rest = file.path.strip_prefix(self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            && self
                .ending
                .is_none_or(|ending| file.ending() == Some(ending))
    }
}

/// What says most: of many files, and as exactly as can be.
fn best<'a>(files: &[File<'a>], least: usize) -> Option<Place<'a>> {
    // How many files, and how exact it is.
    let mut places: FxHashMap<Place<'a>, (usize, usize)> = FxHashMap::default();
    for file in files {
        let mut add = |place, exactness| {
            let (count, known) = places.entry(place).or_default();
            *count += 1;
            *known = exactness;
        };
        let mut depth = 0;
        for end in file.folders() {
            depth += 1;
            let path = file.path.get(..end).unwrap_or_default();
            add(Place { path, ending: None }, 2 * depth);
            if let Some(ending) = file.ending() {
                let ending = Some(ending);
                add(Place { path, ending }, 2 * depth + 1);
            }
        }
        if file.path.starts_with(b"/") && file.path.len() > 1 {
            let path = file.path;
            add(Place { path, ending: None }, 2 * depth + 2);
        }
    }
    let places = places.into_iter();
    let told = places.filter(|(_, (count, _))| *count >= least);
    let best = told.max_by_key(|(place, (count, exactness))| (count * exactness, *place));
    best.map(|(place, _)| place)
}

fn folder(place: &Place<'_>, files: &[File<'_>]) -> Folder {
    let deleted = files.iter().filter(|file| file.is_deleted).count();
    let pattern = match place.ending {
        Some(ending) => Some([b"*", ending].concat()),
        None => beginning(place, files).map(|beginning| [beginning, b"*"].concat()),
    };
    Folder {
        path: place.path.to_vec(),
        is_file: files.iter().all(|file| file.path == place.path),
        pattern,
        count: count(files.len()),
        deleted: count(deleted),
    }
}

/// How all names begin, where the files are in the folder itself.
fn beginning<'a>(place: &Place<'_>, files: &[File<'a>]) -> Option<&'a [u8]> {
    let is_inside = |file: &File<'_>| file.path.len() == place.path.len() + 1 + file.name().len();
    if !files.iter().all(is_inside) {
        return None;
    }
    let mut common = files.first()?.name();
    for file in files {
        let pairs = common.iter().zip(file.name());
        let same = pairs.take_while(|(one, other)| one == other).count();
        common = common.get(..same).unwrap_or_default();
    }
    // Numbers that happen to begin alike are no pattern, nor is half a character.
    while let [before @ .., last] = common
        && (last.is_ascii_digit() || !last.is_ascii())
    {
        common = before;
    }
    (common.len() >= BEGINNING_MIN).then_some(common)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
