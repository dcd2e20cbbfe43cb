//! What a process has mapped: one run of a program, from exec to exec.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    bounds,
    interpreted::Interpreter,
    module::{Module, Modules},
    perf_map, script,
    stack::Runtime,
};
use crate::enrich::process;

/// Code that a process had not mapped when it was looked at is looked for again after so long.
const STALE: Duration = Duration::from_millis(100);
/// The first few times at once: a program that starts maps its libraries one after the other.
const AT_ONCE: u32 = 8;
/// Bytes of a name that are kept.
const NAME_MAX: usize = 1_024;

/// Part of a process that can be executed.
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// The file, where it could be found.
    pub(super) module: Option<Rc<Module>>,
    /// What its addresses differ by from the file's; from places in the file, as long as those are not known.
    pub(super) bias: u64,
}

/// One process from exec to exec.
pub(super) struct Image {
    /// Which of all that there were.
    pub(super) key: u32,
    /// Whose.
    pub(super) tgid: u32,
    /// See `StackRecord::image`.
    pub(super) id: u64,
    /// By address.
    pub(super) mappings: Vec<Mapping>,
    /// What an interpreter runs.
    pub(super) script: Option<Rc<str>>,
    /// What runs it, where that can be looked into,
    pub(super) interpreter: Option<Interpreter>,
    /// and where that tells its functions if somebody asks it to.
    pub(super) runtime: Option<Runtime>,
    /// Names of code that it has made.
    pub(super) made: perf_map::Names,
    read_at: Instant,
    /// How often it has been looked at again.
    looks: u32,
}

impl Image {
    /// Looks at a process; `None` where it is gone, or may not be looked at. With an id, it must be the one
    /// that has it.
    pub(super) fn read(
        key: u32,
        tgid: u32,
        wanted: Option<u64>,
        modules: &mut Modules,
    ) -> Option<Self> {
        let folder = process::folder(tgid);
        let executes = || start_stack(&folder);
        let (id, mappings) = of_one(wanted, executes, || mappings(&folder, modules))?;
        Some(Self {
            key,
            tgid,
            id,
            interpreter: Interpreter::open(&folder, &mappings),
            runtime: Runtime::of(paths(&mappings)).map(|runtime| started(runtime, &folder)),
            mappings,
            script: script::of_process(&folder),
            made: perf_map::Names::default(),
            read_at: Instant::now(),
            looks: 0,
        })
    }

    /// What a process had mapped of its own executable, which is all that is known of one that has ended:
    /// where its code was, and from where in the file.
    pub(super) fn of_program(
        key: u32,
        tgid: u32,
        id: u64,
        module: &Rc<Module>,
        code: &[(u64, u64, u64)],
    ) -> Option<Self> {
        let mapping = |(start, end, offset): &(u64, u64, u64)| Mapping {
            start: *start,
            end: *end,
            offset: *offset,
            module: Some(Rc::clone(module)),
            bias: start.wrapping_sub(*offset),
        };
        let mut mappings: Vec<_> = code.iter().map(mapping).collect();
        mappings.sort_unstable_by_key(|mapping| mapping.start);
        (!mappings.is_empty()).then(|| Self {
            key,
            tgid,
            id,
            mappings,
            script: None,
            interpreter: None,
            runtime: None,
            made: perf_map::Names::default(),
            read_at: Instant::now(),
            looks: AT_ONCE,
        })
    }

    /// One of made-up mappings.
    #[cfg(test)]
    pub(super) fn of(mappings: Vec<Mapping>) -> Self {
        Self {
            key: 1,
            tgid: 1,
            id: 1,
            mappings,
            script: None,
            interpreter: None,
            runtime: None,
            made: perf_map::Names::default(),
            read_at: Instant::now(),
            looks: 0,
        }
    }

    /// The mapping that an address is in.
    pub(super) fn mapping(&self, address: u64) -> Option<&Mapping> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// What the process calls code that it has made, at an address.
    pub(super) fn made_name(&mut self, address: u64) -> Option<Rc<str>> {
        self.made.of(self.tgid, self.id, address)
    }

    /// Is it run by a Python whose functions are not read?
    pub(super) fn is_unread_python(&self) -> bool {
        let interpreter = self.interpreter.as_ref();
        interpreter.is_some_and(Interpreter::is_never_read)
    }

    /// May it have mapped more since it was looked at?
    pub(super) fn is_stale(&self) -> bool {
        self.looks < AT_ONCE || self.read_at.elapsed() >= STALE
    }

    /// The files that it has mapped, each once.
    pub(super) fn modules(&self) -> Vec<Rc<Module>> {
        let modules = self
            .mappings
            .iter()
            .filter_map(|mapping| mapping.module.as_ref());
        let modules = modules.map(|module| (module.id, Rc::clone(module)));
        let modules: BTreeMap<_, _> = modules.collect();
        modules.into_values().collect()
    }

    /// What each mapping's addresses differ by from its file's; `None` where that is no ELF file's code.
    pub(super) fn take(&mut self, biases: &[Option<u64>]) {
        for (mapping, bias) in self.mappings.iter_mut().zip(biases) {
            if bias.is_none() {
                mapping.module = None;
            }
            mapping.bias = bias.unwrap_or(0);
        }
    }

    /// Takes the place of an earlier look.
    pub(super) fn replaces(&mut self, before: &Self) {
        self.looks = before.looks.saturating_add(1);
    }
}

/// A runtime as a process was told to run it.
fn started(runtime: Runtime, folder: &Path) -> Runtime {
    // Both may be out of reach for whoever has few rights: then nobody has told it anything.
    let mut words = read_some(&folder.join("cmdline"), bounds::ARGUMENTS).unwrap_or_default();
    words.extend(read_some(&folder.join("environ"), bounds::ARGUMENTS).unwrap_or_default());
    runtime.started_with(&words)
}

/// The files that mappings are of.
fn paths(mappings: &[Mapping]) -> impl Iterator<Item = &str> {
    let modules = mappings
        .iter()
        .filter_map(|mapping| mapping.module.as_ref());
    modules.map(|module| &*module.path)
}

/// What is read of a process while it executes one program, with that one's id; `None`: it is not the one that is
/// wanted, or not any more. The maps of one that ends meanwhile are short, or empty, and say nothing of that (`m_start`,
/// `fs/proc/task_mmu.c`; seen on 6.12).
fn of_one<T>(
    wanted: Option<u64>,
    executes: impl Fn() -> Option<u64>,
    read: impl FnOnce() -> Option<T>,
) -> Option<(u64, T)> {
    let id = executes()?;
    if wanted.is_some_and(|wanted| wanted != id) {
        return None;
    }
    let read = read()?;
    (executes() == Some(id)).then_some((id, read))
}

/// `start_stack`, the 28th field of /proc/PID/stat; 0 for whom it does not concern.
pub(super) fn start_stack(folder: &Path) -> Option<u64> {
    let stat = fs::read(folder.join("stat")).ok()?;
    // The name may contain anything, the fields behind it are numbers.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let field = rest.split_ascii_whitespace().nth(28 - 3)?;
    field.parse().ok().filter(|id| *id != 0)
}

fn mappings(folder: &Path, modules: &mut Modules) -> Option<Vec<Mapping>> {
    let maps = read_some(&folder.join("maps"), bounds::MAPS).ok()?;
    let lines = maps.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(Line::parse).take(bounds::MAPPINGS);
    let mapping = |line: Line<'_>| {
        let module = line
            .is_file()
            .then(|| line.module(folder, modules))
            .flatten();
        Mapping {
            start: line.start,
            end: line.end,
            offset: line.offset,
            bias: match module {
                Some(_) => line.start.wrapping_sub(line.offset),
                None => 0,
            },
            module,
        }
    };
    Some(lines.map(mapping).collect())
}

/// The beginning of a file of /proc.
fn read_some(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(at_most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A line of /proc/PID/maps that tells of code.
struct Line<'a> {
    start: u64,
    end: u64,
    offset: u64,
    inode: u64,
    path: &'a [u8],
}

impl<'a> Line<'a> {
    /// `start-end perms offset device inode path`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (start, end) = text()?.split_once('-')?;
        if text()?.as_bytes().get(2) != Some(&b'x') {
            return None;
        }
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (offset, _, inode) = (hex(text()?)?, text()?, text()?.parse().ok()?);
        let path = fields.next().unwrap_or_default();
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            offset,
            inode,
            path: path.trim_ascii_start(),
        })
    }

    fn is_file(&self) -> bool {
        self.inode != 0 && self.path.starts_with(b"/")
    }

    fn module(&self, folder: &Path, modules: &mut Modules) -> Option<Rc<Module>> {
        let name = String::from_utf8_lossy(&self.path[..self.path.len().min(NAME_MAX)]);
        // What is mapped itself, whatever its name leads to by now; for those who may.
        let mapped = format!("map_files/{:x}-{:x}", self.start, self.end);
        if let Some(module) = modules.find(&folder.join(mapped), &name, None) {
            return Some(module);
        }
        // By name, as the process sees files; as fdtrace does, where the process has just ended.
        let path = std::str::from_utf8(self.path).ok()?;
        let theirs = folder.join("root").join(path.trim_start_matches('/'));
        let ours = Path::new(path);
        let mut by_name = |at: &Path| modules.find(at, &name, Some(self.inode));
        by_name(&theirs).or_else(|| by_name(ours))
    }
}

#[cfg(test)]
mod tests;
