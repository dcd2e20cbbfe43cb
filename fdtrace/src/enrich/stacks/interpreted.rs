//! Frames of interpreters beside the stack of the machine: what becomes of a process's memory, and where it is shown.

use std::{
    fs::File,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use fdtrace_common::python::PythonLayout;
use log::debug;
use rustc_hash::FxHashSet;

use super::{
    Raw,
    image::{Image, Mapping},
    module::Module,
    python::NotRead,
    reader::Reader,
    stack::Frame,
};

/// An interpreter that was in none of its functions, or had not begun, is looked for again after so long.
const PAUSE: Duration = Duration::from_millis(20);
/// And so often.
const TRIES: u32 = 100;
/// What has looked like no known interpreter so often is none.
const SURE: u32 = 3;
/// Frames that are held once for all stacks; beyond that, stacks that come have their own.
const HELD: usize = 16_384;

/// Tells kernel programs where the interpreter of a program keeps its frames, by `StackRecord::image`.
pub type Teller = Arc<dyn Fn(u64, PythonLayout) + Send + Sync>;

/// What is known of the interpreter in a process.
pub(super) struct Interpreter {
    /// The process's memory, for as long as it has the same program.
    memory: File,
    /// The files that it can be in.
    modules: Vec<Rc<Module>>,
    /// `None`: it is known.
    not_read: Option<NotRead>,
    tries: u32,
    last: Option<Instant>,
}

impl Interpreter {
    /// `None`: the process has no interpreter, or its memory may not be read.
    pub(super) fn open(folder: &Path, mappings: &[Mapping]) -> Option<Self> {
        let mut modules: Vec<Rc<Module>> = Vec::new();
        for module in mappings
            .iter()
            .filter_map(|mapping| mapping.module.as_ref())
        {
            let is_new = modules.iter().all(|known| known.id != module.id);
            if is_new && is_python(&module.path) {
                modules.push(Rc::clone(module));
            }
        }
        if modules.is_empty() {
            return None;
        }
        let memory = File::open(folder.join("mem"));
        let memory = memory.inspect_err(|error| debug!("{}: {error}", folder.display()));
        Some(Self {
            memory: memory.ok()?,
            modules,
            not_read: Some(NotRead::NotYet),
            tries: 0,
            last: None,
        })
    }

    pub(super) fn memory(&self) -> &File {
        &self.memory
    }

    /// The numbers of the files that it can be in.
    pub(super) fn modules(&self) -> Vec<u32> {
        self.modules.iter().map(|module| module.id).collect()
    }

    fn is_due(&self) -> bool {
        let has_rested = self.last.is_none_or(|last| last.elapsed() >= PAUSE);
        let may_come = matches!(self.not_read, Some(NotRead::NotYet | NotRead::Unknown));
        may_come && self.tries < TRIES && has_rested
    }

    /// Is it like none that is known, as far as it has been mapped?
    pub(super) fn is_unlike_any(&self) -> bool {
        self.not_read == Some(NotRead::Unknown)
    }

    /// Will its functions never be known? Before a program has been linked, nothing in it is what it looks like.
    pub(super) fn is_never_read(&self) -> bool {
        match self.not_read {
            Some(NotRead::FreeThreaded) => true,
            Some(NotRead::Unknown) => self.tries >= SURE,
            Some(NotRead::NotYet) | None => false,
        }
    }
}

/// Is a file an interpreter, or the library that one is in, by its name?
pub(super) fn is_python(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("python") || name.starts_with("libpython")
}

/// The frames of all interpreters.
#[derive(Default)]
pub(super) struct Interpreters {
    teller: Option<Teller>,
    held: FxHashSet<Rc<Frame>>,
}

impl Interpreters {
    /// Who tells kernel programs what is found.
    pub(super) fn told_by(teller: Option<Teller>) -> Self {
        Self {
            teller,
            held: FxHashSet::default(),
        }
    }

    /// The functions of the interpreter that a stack was taken of, the innermost first; none where none are known.
    pub(super) fn frames(
        &mut self,
        reader: &mut Reader,
        image: &mut Image,
        raw: &Raw,
    ) -> Rc<[Rc<Frame>]> {
        self.look(reader, image, raw.head.thread_pointer);
        let is_found = image
            .interpreter
            .as_ref()
            .is_some_and(|it| it.not_read.is_none());
        if !is_found || raw.python.is_empty() {
            return Rc::default();
        }
        let mut frames = reader.functions(image, &raw.python);
        if frames.is_none() {
            // A reader that was started anew knows nothing.
            let found = reader.interpreter(image, raw.head.thread_pointer);
            frames = found
                .ok()
                .and_then(|_| reader.functions(image, &raw.python));
        }
        let frames = frames.unwrap_or_default().into_iter();
        frames.map(|frame| self.hold(frame)).collect()
    }

    /// Looks for the interpreter of a process, where it is not known, by a thread of it where one is.
    pub(super) fn look(&mut self, reader: &mut Reader, image: &mut Image, pointer: u64) {
        if image.interpreter.as_ref().is_some_and(Interpreter::is_due) {
            self.look_now(reader, image, pointer);
        }
    }

    /// Looks for it by any of its threads, without a pause since the look before; `true`: it is known.
    pub(super) fn seek(&mut self, reader: &mut Reader, image: &mut Image) -> bool {
        let is_wanted = |it: &Interpreter| it.not_read.is_some() && it.tries < TRIES;
        if image.interpreter.as_ref().is_some_and(is_wanted) {
            self.look_now(reader, image, 0);
        }
        let interpreter = image.interpreter.as_ref();
        interpreter.is_some_and(|it| it.not_read.is_none())
    }

    fn look_now(&mut self, reader: &mut Reader, image: &mut Image, pointer: u64) {
        let found = reader.interpreter(image, pointer);
        if let Some(interpreter) = &mut image.interpreter {
            interpreter.last = Some(Instant::now());
            interpreter.tries += 1;
            interpreter.not_read = found.err();
        }
        debug!("interpreter of process {}: {found:?}", image.tgid);
        if let (Ok(layout), Some(teller)) = (found, &self.teller) {
            teller(image.id, layout);
        }
    }

    fn hold(&mut self, frame: Frame) -> Rc<Frame> {
        if let Some(known) = self.held.get(&frame) {
            return Rc::clone(known);
        }
        if self.held.len() >= HELD {
            self.held.retain(|frame| Rc::strong_count(frame) > 1);
        }
        let frame = Rc::new(frame);
        if self.held.len() < HELD {
            self.held.insert(Rc::clone(&frame));
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_known_by_their_names() {
        for path in [
            "/usr/bin/python3.11",
            "/p/lib/libpython3.8.so.1.0",
            "python",
        ] {
            assert!(is_python(path), "{path}");
        }
        for path in [
            "/usr/bin/perl",
            "/lib/python3.11/lib-dynload/_socket.so",
            "",
        ] {
            assert!(!is_python(path), "{path}");
        }
    }
}
