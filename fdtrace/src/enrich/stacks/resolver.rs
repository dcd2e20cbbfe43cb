//! All that is known of stacks: which ones there were, and what they say.

use std::{
    cell::OnceCell,
    fs,
    hash::{Hash, Hasher},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use fdtrace_common::{python::PYTHON_FRAMES, stack::REGISTER_IP};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    CodePath, Counted, Detail, Frequent, Raw, Stack, bounds,
    image::{self, Image},
    imports,
    interpreted::{Interpreters, Teller, is_python},
    module::{Module, Modules},
    perf_map,
    program::{Program, Programs},
    reader::Reader,
    seeking::Seeking,
    stack::{Frame, Runtime},
    unwind::Unwound,
};
use crate::{diagnose::select::Select, engine::opener::Sequence, enrich::process};

/// Processes whose mappings are held at most.
const IMAGES: usize = 512;
/// Different stacks below which nobody looks for those that are not needed any more.
const FEW: usize = 1_024;

/// An address in a file; in the process, where it is in none.
#[derive(Clone)]
struct Place {
    module: Option<Rc<Module>>,
    address: u64,
    /// What the process itself calls code that it has made.
    name: Option<Rc<str>>,
}

impl Place {
    fn key(&self) -> (u32, u64, Option<&str>) {
        let id = self.module.as_ref().map_or(0, |module| module.id);
        (id, self.address, self.name.as_deref())
    }
}

/// A stack before anybody reads it: each is there once, however many fds it has opened.
#[derive(Default)]
struct Trace {
    places: Vec<Place>,
    is_cut: bool,
    script: Option<Rc<str>>,
    /// Functions of an interpreter, in place of what it is itself made of: further out than the places.
    interpreted: Rc<[Rc<Frame>]>,
    /// What runs the program and does not tell its functions by itself.
    runtime: Option<Runtime>,
    read: OnceCell<Arc<Stack>>,
}

impl PartialEq for Trace {
    fn eq(&self, other: &Self) -> bool {
        self.is_cut == other.is_cut
            && self.script == other.script
            && self.interpreted == other.interpreted
            && self.runtime == other.runtime
            && self
                .places
                .iter()
                .map(Place::key)
                .eq(other.places.iter().map(Place::key))
    }
}

impl Eq for Trace {}

impl Hash for Trace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for place in &self.places {
            place.key().hash(state);
        }
        for frame in &*self.interpreted {
            (&frame.function, frame.line).hash(state);
        }
    }
}

/// From sequences to stacks. It lives on the thread of [`super::Stacks`].
#[derive(Default)]
pub struct Resolver {
    modules: Modules,
    programs: Programs,
    /// The one that was needed last is the last.
    images: Vec<Image>,
    by_sequence: FxHashMap<Sequence, Rc<Trace>>,
    traces: FxHashSet<Rc<Trace>>,
    reader: Reader,
    interpreters: Interpreters,
    seeking: Seeking,
    /// What was found of processes, by number and where the stack begins.
    selects: FxHashMap<(u32, u64), Option<Select>>,
    is_full_at: usize,
    /// Images made so far.
    made: u32,
    /// Names that have not been read by then are left out.
    naming_ends: Option<Instant>,
}

impl Resolver {
    /// One that tells kernel programs of interpreters.
    pub(super) fn telling(teller: Option<Teller>) -> Self {
        Self {
            interpreters: Interpreters::told_by(teller),
            ..Self::default()
        }
    }

    /// A stack that was pushed before; `None` where it was dropped, or is not needed any more.
    pub fn stack(&mut self, sequence: Sequence) -> Option<Arc<Stack>> {
        let trace = Rc::clone(self.by_sequence.get(&sequence)?);
        if let Some(stack) = trace.read.get() {
            return Some(Arc::clone(stack));
        }
        let (stack, is_complete) = self.read(&trace);
        let stack = Arc::new(stack);
        if is_complete {
            let _ = trace.read.set(Arc::clone(&stack));
        }
        Some(stack)
    }

    /// Do the program and the libraries of a process use select(2), by what they import? `None`: it is gone, or
    /// its program says nothing of that.
    pub fn select_imports(&mut self, pid: u32) -> Option<Select> {
        let folder = process::folder(pid);
        let key = (pid, image::start_stack(&folder)?);
        if let Some(known) = self.selects.get(&key) {
            return known.clone();
        }
        let image = self.image(pid, Some(key.1))?;
        let path = fs::read_link(folder.join("exe")).ok()?;
        let path = path.to_string_lossy();
        let program = self.modules.find(&folder.join("exe"), &path, None)?;
        let is_other = |module: &Rc<Module>| !Rc::ptr_eq(module, &program);
        let mut libraries = image.modules();
        libraries.retain(is_other);
        libraries.truncate(bounds::IMPORTERS);
        for module in std::iter::once(&program).chain(&libraries) {
            self.found_in(module);
        }
        let known = |module: &Rc<Module>| Some(module.imports.get().copied().flatten()?.imports);
        let libraries = libraries.iter().map(|it| (&*it.path, known(it)));
        let select = imports::judge((&path, known(&program)), libraries);
        if self.selects.len() >= bounds::IMPORTERS_KEPT {
            self.selects.clear();
        }
        self.selects.insert(key, select.clone());
        select
    }

    /// Has Go's compiler made the program of a process? `None`: it is gone, or its program cannot be read.
    pub fn is_go(&mut self, pid: u32) -> Option<bool> {
        let exe = process::folder(pid).join("exe");
        let path = fs::read_link(&exe).ok()?;
        let program = self.modules.find(&exe, &path.to_string_lossy(), None)?;
        Some(self.found_in(&program)?.is_go)
    }

    fn found_in(&mut self, module: &Rc<Module>) -> Option<imports::Found> {
        let reader = &mut self.reader;
        *module.imports.get_or_init(|| reader.imports(module))
    }

    /// Somebody asks something: names are read for so long, and no longer.
    pub(super) fn begin_question(&mut self, naming: Duration) {
        self.naming_ends = Some(Instant::now() + naming);
    }

    /// The most frequent of these stacks, each with its number, so many at most.
    pub fn most_frequent(&mut self, sequences: &[Sequence], at_most: usize) -> Frequent {
        // What two stacks have in common shows when they are read: a function called from two lines is
        // two stacks.
        let stacks = sequences.iter();
        let stacks = stacks.filter_map(|sequence| Some((1, self.stack(*sequence)?)));
        let full = count(stacks, Detail::Full);
        // Of those that look alike in text the most frequent one stands for all.
        let shown = count(full.into_iter(), Detail::Shown);
        let mut most = shown;
        let others = most.split_off(most.len().min(at_most));
        Frequent {
            most,
            others: others.iter().map(|(count, _)| count).sum(),
        }
    }

    /// A stack that somebody else has resolved: from a recording.
    pub fn insert(&mut self, sequence: Sequence, stack: Arc<Stack>) {
        let trace = Trace {
            read: OnceCell::from(stack),
            ..Trace::default()
        };
        self.by_sequence.insert(sequence, Rc::new(trace));
    }

    /// How many stacks differ from each other, of those that are needed.
    #[must_use]
    pub fn different(&self) -> usize {
        self.traces.len()
    }

    /// Takes a stack in.
    pub(super) fn take(&mut self, raw: &Raw) {
        let trace = self.trace(raw);
        let known = self.traces.get(&trace).map(Rc::clone);
        let trace = known.unwrap_or_else(|| {
            let trace = Rc::new(trace);
            self.make_room();
            self.traces.insert(Rc::clone(&trace));
            trace
        });
        self.by_sequence.insert(raw.sequence, trace);
    }

    /// A process executes another program.
    pub(super) fn executed(&mut self, tgid: u32, program: Program) {
        if is_python(program.path()) {
            self.seeking.add(tgid, Instant::now());
        } else {
            self.seeking.remove(tgid);
        }
        self.programs.put(tgid, program);
    }

    /// Looks at a process.
    pub(super) fn know(&mut self, tgid: u32) {
        if let Some(mut image) = self.image(tgid, None) {
            self.interpreters.look(&mut self.reader, &mut image, 0);
            self.keep(image);
        }
    }

    /// Looks for the interpreter of a process from now on, if it runs one.
    pub(super) fn seek(&mut self, tgid: u32) {
        if runs_python(tgid) {
            self.seeking.add(tgid, Instant::now());
        }
    }

    /// Looks at those whose interpreter is sought and that are due; how long until the next one is.
    pub(super) fn look_around(&mut self) -> Option<Duration> {
        for tgid in self.seeking.due(Instant::now()) {
            if !runs_python(tgid) || self.has_interpreter(tgid) {
                self.seeking.remove(tgid);
            }
        }
        self.seeking.wait(Instant::now())
    }

    /// Looks at a process that is sought. It is looked at anew for as long as its interpreter may not have been mapped.
    fn has_interpreter(&mut self, tgid: u32) -> bool {
        let id = image::start_stack(&process::folder(tgid));
        let mut images = self.images.iter();
        let known = images.position(|image| image.tgid == tgid && Some(image.id) == id);
        let known = known.filter(|index| {
            let interpreter = self.images[*index].interpreter.as_ref();
            interpreter.is_some_and(|it| !it.is_unlike_any())
        });
        let known = known.map(|index| self.images.remove(index));
        let Some(mut image) = known.or_else(|| self.image(tgid, id)) else {
            return false;
        };
        let is_known = self.interpreters.seek(&mut self.reader, &mut image);
        self.keep(image);
        is_known
    }

    fn image(&mut self, tgid: u32, id: Option<u64>) -> Option<Image> {
        self.made += 1;
        Image::read(self.made, tgid, id, &mut self.modules)
    }

    /// These are not needed any more.
    pub(super) fn forget(&mut self, gone: &[Sequence]) {
        for sequence in gone {
            self.by_sequence.remove(sequence);
        }
    }

    /// Nobody has asked for anything for a while: frees what can be read again from the files that are held.
    pub(super) fn rest(&mut self) {
        self.reader.rest();
    }

    fn make_room(&mut self) {
        if self.traces.len() >= self.is_full_at.max(FEW) {
            self.traces.retain(|trace| Rc::strong_count(trace) > 1);
            self.is_full_at = self.traces.len() * 2;
        }
    }

    fn keep(&mut self, mut image: Image) {
        let is_it = |known: &Image| (known.tgid, known.id) == (image.tgid, image.id);
        if let Some(index) = self.images.iter().position(is_it) {
            let before = self.images.remove(index);
            image.replaces(&before);
        }
        if self.images.len() >= IMAGES {
            self.images.remove(0);
        }
        self.images.push(image);
    }

    fn trace(&mut self, raw: &Raw) -> Trace {
        let Some(index) = self.find(raw) else {
            return Trace {
                places: vec![Place {
                    module: None,
                    address: innermost(raw),
                    name: None,
                }],
                is_cut: true,
                ..Trace::default()
            };
        };
        let unwound = self.unwind(index, raw);
        if unwound.is_lost && self.images[index].is_stale() && self.refresh(raw) {
            // It may have mapped more since: a library that was loaded, code that was made.
            let last = self.images.len() - 1;
            let unwound = self.unwind(last, raw);
            return self.with_interpreted(last, unwound, raw);
        }
        self.with_interpreted(index, unwound, raw)
    }

    /// Where a stack cannot be unwound, its innermost function is known.
    fn unwind(&mut self, index: usize, raw: &Raw) -> Unwound {
        let (image, registers) = (&mut self.images[index], &raw.head.registers);
        let unwound = self.reader.unwind(image, registers, &raw.bytes);
        let mut unwound = unwound.unwrap_or_else(|| Unwound {
            is_cut: true,
            ..Unwound::default()
        });
        if unwound.addresses.is_empty() {
            unwound.addresses.push(innermost(raw));
        }
        unwound
    }

    /// What an interpreter is itself made of says nothing where its functions are known: they begin where it has the
    /// last word.
    fn with_interpreted(&mut self, index: usize, unwound: Unwound, raw: &Raw) -> Trace {
        let mut trace = self.places(index, unwound);
        let image = &mut self.images[index];
        let interpreted = self.interpreters.frames(&mut self.reader, image, raw);
        let is_its_own = |place: &Place| {
            let module = place.module.as_ref();
            module.is_some_and(|module| is_python(&module.path))
        };
        if !interpreted.is_empty() {
            let inner = trace.places.iter().position(is_its_own);
            trace.places.truncate(inner.unwrap_or(usize::MAX));
            trace.is_cut = raw.python.len() == PYTHON_FRAMES;
            trace.interpreted = interpreted;
        } else if image.is_unread_python() {
            let has_its_own = trace.places.iter().any(is_its_own);
            trace.runtime = has_its_own.then_some(Runtime::Python);
        }
        trace
    }

    fn places(&mut self, index: usize, unwound: Unwound) -> Trace {
        let image = &mut self.images[index];
        let place = |address: u64| {
            let mapping = image.mapping(address);
            let module = mapping.and_then(|mapping| mapping.module.clone());
            let bias = mapping.map_or(0, |mapping| mapping.bias);
            let is_made = mapping.is_some() && module.is_none();
            let name = is_made.then(|| image.made_name(address)).flatten();
            Place {
                module,
                address: address.wrapping_sub(bias),
                name,
            }
        };
        Trace {
            places: unwound.addresses.into_iter().map(place).collect(),
            is_cut: unwound.is_cut,
            script: image.script.clone(),
            interpreted: Rc::default(),
            runtime: image.runtime,
            read: OnceCell::new(),
        }
    }

    /// The image of a stack's process, looked at now if it is not known. One that is gone already may be a
    /// child of one that is known: it has the same mappings, at the same random addresses.
    fn find(&mut self, raw: &Raw) -> Option<usize> {
        let head = &raw.head;
        let mut images = self.images.iter();
        let own = images.rposition(|image| (image.tgid, image.id) == (head.tgid, head.image));
        if own.is_some() || self.refresh(raw) {
            return own.or(self.images.len().checked_sub(1));
        }
        let mut images = self.images.iter();
        let related = images.rposition(|image| image.id == head.image);
        if related.is_some() || !self.rebuild(raw) {
            return related;
        }
        self.images.len().checked_sub(1)
    }

    /// Makes up the image of a process that is gone from its executable.
    fn rebuild(&mut self, raw: &Raw) -> bool {
        let head = &raw.head;
        let program = self.programs.of(head.tgid);
        let module = program.and_then(|program| program.find(&mut self.modules));
        let image = module.and_then(|module| {
            let code = self.reader.code(&module, head.end_code)?;
            self.made += 1;
            Image::of_program(self.made, head.tgid, head.image, &module, &code)
        });
        image.map(|image| self.keep(image)).is_some()
    }

    fn refresh(&mut self, raw: &Raw) -> bool {
        let image = self.image(raw.head.tgid, Some(raw.head.image));
        image.map(|image| self.keep(image)).is_some()
    }

    /// A stack with its names; `false`: some of them could not be had now.
    fn read(&mut self, trace: &Trace) -> (Stack, bool) {
        let (mut frames, mut is_complete) = (Vec::new(), true);
        for place in &trace.places {
            let told = place.name.as_deref().map(perf_map::function);
            let bare = Frame {
                module: place.module.as_ref().map(|module| module.path.to_string()),
                address: place.address,
                ..told.unwrap_or_default()
            };
            let Some(module) = &place.module else {
                frames.push(bare);
                continue;
            };
            let is_late = self.naming_ends.is_some_and(|end| end <= Instant::now());
            let names = (!is_late).then(|| self.reader.names(module, place.address));
            let names = names.flatten();
            is_complete &= names.is_some();
            let names = names.filter(|names| !names.is_empty());
            frames.extend(names.map_or_else(
                || vec![bare.clone()],
                |names| {
                    let complete = names.into_iter().map(|frame| Frame {
                        module: bare.module.clone(),
                        ..frame
                    });
                    complete.collect()
                },
            ));
        }
        frames.extend(trace.interpreted.iter().map(|frame| Frame::clone(frame)));
        let mut stack = Stack {
            frames,
            is_cut: trace.is_cut,
            script: trace.script.as_deref().map(str::to_owned),
            nameless: None,
        };
        stack.mark_wrappers();
        stack.mark_nameless(trace.runtime);
        (stack, is_complete)
    }
}

/// Sums up what is equal by so much of it; the most frequent first.
fn count(stacks: impl Iterator<Item = Counted>, detail: Detail) -> Vec<Counted> {
    let mut counted: Vec<(usize, CodePath)> = Vec::new();
    for (count, stack) in stacks {
        let path = CodePath::new(stack, detail);
        match counted.iter_mut().find(|(_, known)| *known == path) {
            Some((known, _)) => *known += count,
            None => counted.push((count, path)),
        }
    }
    counted.sort_by(|(one, _), (other, _)| other.cmp(one));
    let counted = counted.into_iter();
    counted.map(|(count, path)| (count, path.stack)).collect()
}

/// Does a process execute a Python?
fn runs_python(tgid: u32) -> bool {
    let program = fs::read_link(process::folder(tgid).join("exe"));
    program.is_ok_and(|path| is_python(&path.to_string_lossy()))
}

/// An address within the instruction that entered the kernel.
fn innermost(raw: &Raw) -> u64 {
    raw.head.registers[REGISTER_IP].wrapping_sub(1)
}
