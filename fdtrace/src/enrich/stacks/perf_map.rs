//! Names of code that a process has made while it ran, by the file in which runtimes write them for perf(1):
//! `/tmp/perf-PID.map`, of lines `START SIZE NAME` with hexadecimal numbers.
//!
//! Node writes it with `--perf-basic-prof`, the JVM by `jcmd PID Compiler.perfmap`, .NET with `DOTNET_PerfMapEnabled`.
//! The file grows while it is read, and anybody can have put it there: it must be the process's user's or root's, and
//! what is no line of it is passed over.

use std::{
    fs,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use log::debug;

use super::{bounds, image, stack::Frame};
use crate::enrich::{
    process,
    regular::{Key, Regular},
};

/// Bytes of a name that are kept.
const NAME_MAX: usize = 512;
/// The file is looked at again after so long: what was compiled lately is called now.
const PAUSE: Duration = Duration::from_millis(20);
/// Looking takes at most this part of the time.
const PART: u32 = 20;

/// Where functions are, and what they are called.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PerfMap {
    /// By address; each is as the last line has it that tells of that address.
    functions: Vec<(u64, u64, Rc<str>)>,
}

impl PerfMap {
    /// Reads a file's content. Any bytes are one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n');
        let mut all: Vec<_> = lines
            .filter_map(line)
            .take(bounds::PERF_FUNCTIONS)
            .collect();
        // Code is thrown away and other code put in its place: later lines come first where they begin alike.
        all.reverse();
        all.sort_by_key(|(start, ..)| *start);
        all.dedup_by_key(|(start, ..)| *start);
        Self { functions: all }
    }

    /// The function at an address.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<&Rc<str>> {
        let after = self
            .functions
            .partition_point(|(start, ..)| *start <= address);
        let (_, end, name) = self.functions.get(after.checked_sub(1)?)?;
        (address < *end).then_some(name)
    }
}

/// Where a function begins and ends, and its name.
fn line(line: &[u8]) -> Option<(u64, u64, Rc<str>)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let text = std::str::from_utf8(fields.next()?).ok()?;
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u64::from_str_radix(digits, 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    let end = start.checked_add(size)?;
    let name = String::from_utf8_lossy(&name[..name.len().min(NAME_MAX)]);
    (size > 0 && !name.is_empty()).then(|| (start, end, name.into()))
}

/// A function by its name in a map. V8's have their file, and the line where the function begins:
/// `JS:~open /srv/app.js:3:17`, where the sign says how it was compiled (`CodeKindToMarker` in V8's `src/objects/code-kind.cc`);
/// `LazyCompile:` and others before Node 18.
#[must_use]
pub fn function(name: &str) -> Frame {
    of_v8(name).unwrap_or_else(|| Frame {
        function: Some(name.to_owned()),
        ..Frame::default()
    })
}

fn of_v8(name: &str) -> Option<Frame> {
    const KINDS: [&str; 5] = ["JS", "LazyCompile", "Function", "Script", "Eval"];
    let (kind, rest) = name.split_once(':')?;
    if !KINDS.contains(&kind) {
        return None;
    }
    let rest = rest.trim_start_matches(['~', '^', '+', '*', '\'']);
    // A getter's name has a space in it, and so may a path.
    let mut places = [" /", " node:", " file:///"].into_iter();
    let place = places.find_map(|begin| rest.find(begin));
    let (function, place) = rest.split_at(place.or_else(|| rest.find(' '))?);
    let mut parts = place.get(1..)?.rsplitn(3, ':');
    let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    column.parse::<u32>().ok()?;
    let function = if function.is_empty() {
        "<anonymous>"
    } else {
        function
    };
    Some(Frame {
        function: Some(function.to_owned()),
        file: Some(file.strip_prefix("file://").unwrap_or(file).to_owned()),
        line: Some(line.parse().ok()?),
        is_interpreted: true,
        ..Frame::default()
    })
}

/// The map of one process, read when it is needed and again when it has changed.
#[derive(Debug, Default)]
pub(super) struct Names {
    map: PerfMap,
    read: Option<Key>,
    looked: Option<Instant>,
    /// How long the last look took.
    took: Duration,
}

impl Names {
    /// The function at an address.
    pub(super) fn of(&mut self, tgid: u32, id: u64, address: u64) -> Option<Rc<str>> {
        if let Some(name) = self.map.name(address) {
            return Some(Rc::clone(name));
        }
        let pause = PAUSE.max(self.took * PART);
        if self.looked.is_none_or(|looked| looked.elapsed() >= pause) {
            let start = Instant::now();
            let folder = process::folder(tgid);
            // Another program may have its number by now.
            if image::start_stack(&folder) == Some(id) {
                self.look(&folder);
            }
            self.took = start.elapsed();
            self.looked = Some(Instant::now());
        }
        self.map.name(address).map(Rc::clone)
    }

    fn look(&mut self, folder: &Path) {
        let read = || {
            let status = fs::read_to_string(folder.join("status")).ok()?;
            let (number, user) = identity(&status)?;
            let path = folder.join(format!("root/tmp/perf-{number}.map"));
            let file = Regular::find_itself(&path).ok()?;
            let is_theirs = file.uid == user || file.uid == 0;
            if !is_theirs || self.read == Some(file.key) {
                return None;
            }
            let bytes = file.read(bounds::PERF_MAP);
            let bytes = bytes.inspect_err(|error| debug!("{}: {error}", path.display()));
            Some((file.key, PerfMap::parse(&bytes.ok()?)))
        };
        if let Some((key, map)) = read() {
            self.read = Some(key);
            self.map = map;
        }
    }
}

/// The number that a process has in its own pid namespace, and its effective user, by /proc/PID/status.
fn identity(status: &str) -> Option<(u32, u32)> {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::split_ascii_whitespace)
    };
    let number = field("NSpid:")?.next_back()?.parse().ok()?;
    let user = field("Uid:")?.nth(1)?.parse().ok()?;
    Some((number, user))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_line_is_passed_over() {
        let text = b"7efc98faade0 270 JS:~handler /srv/leak.js:3:17\nnonsense\n\xff\xfe 1 x\n\
            0x00007efc98fab100 0x0000000000000020 void Leak.handler(int)\n10 0 nothing\nffffffffffffffff 2 beyond\n20 5";
        let map = PerfMap::parse(text);
        let name = |address| map.name(address).map(|name| &**name);
        assert_eq!(
            name(0x7efc_98fa_ade0),
            Some("JS:~handler /srv/leak.js:3:17")
        );
        assert_eq!(
            name(0x7efc_98fa_b04f),
            Some("JS:~handler /srv/leak.js:3:17")
        );
        assert_eq!(name(0x7efc_98fa_b050), None);
        assert_eq!(name(0x7efc_98fa_b11f), Some("void Leak.handler(int)"));
        assert_eq!(map.functions.len(), 2);
    }

    #[test]
    fn the_last_line_of_an_address_counts() {
        let map = PerfMap::parse(b"1000 10 old\n2000 10 other\n1000 20 new\n");
        assert_eq!(map.name(0x1018).map(|name| &**name), Some("new"));
        assert_eq!(map.name(0x2000).map(|name| &**name), Some("other"));
    }

    #[test]
    fn a_process_is_called_as_in_its_own_namespace() {
        let status = "Name:\tjava\nUid:\t1\t33\t1\t1\nNSpid:\t4711\t17\t1\n";
        assert_eq!(identity(status), Some((1, 33)));
        assert_eq!(identity("Name:\tjava\n"), None);
    }

    #[test]
    fn functions_of_v8_have_their_files() {
        let shown = |name| function(name).to_string();
        assert_eq!(shown("JS:^peek /srv/app.js:6:14"), "peek (/srv/app.js:6)");
        assert_eq!(
            shown("JS:*openSync node:fs:570:18"),
            "openSync (node:fs:570)"
        );
        assert_eq!(
            shown("JS:~ /srv/a b.js:13:29"),
            "<anonymous> (/srv/a b.js:13)"
        );
        assert_eq!(
            shown("LazyCompile:*get size file:///srv/m.mjs:2:1"),
            "get size (/srv/m.mjs:2)"
        );
        for other in [
            "JS:~peek",
            "JS:~peek /srv/app.js",
            "JS:~peek /srv/app.js:x:1",
            "RegExp:a:1:2",
            "void Leak.load(java.lang.String)",
            "JS:",
        ] {
            assert_eq!(shown(other), other);
            assert!(!function(other).is_interpreted);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_map(bytes: Vec<u8>, text in "([0-9a-fx]{1,17} [0-9a-f]{1,3} .{0,9}\n){0,20}", at: u64) {
            let _ = PerfMap::parse(&bytes).name(at);
            let _ = PerfMap::parse(text.as_bytes()).name(at);
            let _ = function(&format!("JS:{}", String::from_utf8_lossy(&bytes)));
        }
    }
}
