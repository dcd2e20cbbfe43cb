//! The reader process: everything that is worked out from the content of ELF files and stacks.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use fdtrace_common::python::PythonLayout;
use rustc_hash::FxHashMap;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_name, set_no_new_privs},
    time::Timespec,
};

use super::{
    super::{
        bounds,
        elf::{Elf, Room},
        go::GoPrograms,
        imports,
        python::{self, NotRead},
        sigbus,
        stack::Frame,
        symbols::Symbols,
        unwind::{Code, Unwinder},
    },
    wire::{self, Answer, Mapped, Request},
};
use crate::enrich::regular::Regular;

/// Bytes of its stack, which no other bound is for: parsers call themselves.
const STACK: u64 = 8 << 20;

/// Answers until nobody asks any more.
pub(super) fn serve(socket: &OwnedFd) {
    confine();
    // From here on it ends with fdtrace. That may have been earlier.
    if is_left(socket) {
        return;
    }
    sigbus::survive();
    let mut state = State::default();
    let mut buffer = wire::Buffer::default();
    while let Ok(Some((request, behind, fd))) = buffer.receive(socket.as_fd()) {
        let Some(answer) = state.answer(request, behind, fd) else {
            continue;
        };
        // Names that are too long for a message are none.
        let sent = wire::send(socket.as_fd(), &answer, &[], None)
            .or_else(|_| wire::send(socket.as_fd(), &Answer::Names(Vec::new()), &[], None));
        if sent.is_err() {
            return;
        }
    }
}

/// Has fdtrace gone?
fn is_left(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_err() || fds[0].revents().contains(PollFlags::HUP)
}

/// Gives up what is not needed to read files. What is refused here was not there to be given up.
fn confine() {
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    let _ = set_name(c"fdtrace-elf");
    // Programs with capabilities of their own lose the one that they were started with (`begin_new_exec` in
    // fs/exec.c).
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // An fd for each file.
    let hard = getrlimit(Resource::Nofile).maximum;
    let files = Rlimit {
        current: hard,
        maximum: hard,
    };
    let _ = setrlimit(Resource::Nofile, files);
    let _ = setrlimit(Resource::Data, limit(bounds::MEMORY));
    let _ = setrlimit(Resource::Stack, limit(STACK));
    let _ = setrlimit(Resource::Core, limit(0));
    let _ = setrlimit(Resource::Fsize, limit(0));
    let _ = set_no_new_privs(true);
    let needed = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    if let Ok(own) = rustix::thread::capabilities(None) {
        let _ = set_capabilities(
            None,
            CapabilitySets {
                effective: own.effective & needed,
                permitted: own.permitted & needed,
                inheritable: CapabilitySet::empty(),
            },
        );
    }
}

#[derive(Default)]
struct State {
    /// `None`: no ELF file of this machine's.
    elfs: FxHashMap<u32, Option<Elf>>,
    /// Bytes of unwind information that are held.
    room: Room,
    images: FxHashMap<u32, Image>,
    symbols: Symbols,
    go: GoPrograms,
    /// What files have of an interpreter.
    interpreters: FxHashMap<u32, Option<python::Symbols>>,
}

/// A process's mappings; the unwinder is there when all of them are known.
#[derive(Default)]
struct Image {
    mappings: Vec<Mapped>,
    unwinder: Option<Unwinder>,
    python: Option<Python>,
}

/// The interpreter in a process.
struct Python {
    memory: File,
    interpreter: python::Interpreter,
    functions: python::Functions,
}

impl State {
    fn answer(&mut self, request: Request, behind: &[u8], fd: Option<OwnedFd>) -> Option<Answer> {
        match request {
            Request::Module(id) => {
                let elf = fd.and_then(|fd| Elf::read(id, fd, &mut self.room));
                self.elfs.insert(id, elf);
                None
            }
            Request::Image {
                key,
                mappings,
                is_last,
            } => {
                let image = self.images.entry(key).or_default();
                image.mappings.extend(mappings);
                is_last.then(|| self.complete(key))
            }
            Request::Unwind { key, registers } => {
                let image = self.images.get_mut(&key);
                let unwinder = image.and_then(|image| image.unwinder.as_mut());
                let unwound = unwinder.map(|unwinder| unwinder.unwind(&registers, behind));
                Some(Answer::Unwound(unwound.unwrap_or_default()))
            }
            Request::Code { module, end_code } => {
                let elf = self.elfs.get(&module).and_then(Option::as_ref);
                let code = elf.map(|elf| elf.code_by_end(end_code));
                Some(Answer::Code(code.unwrap_or_default()))
            }
            Request::Interpreter {
                key,
                modules,
                thread_pointer,
            } => {
                let memory = fd.map(File::from);
                let found = memory.map(|it| self.find_python(key, &modules, thread_pointer, it));
                let found = found.unwrap_or(Err(NotRead::NotYet));
                Some(Answer::Interpreter(found))
            }
            Request::Functions { key, frames } => {
                let image = self.images.get_mut(&key);
                let python = image.and_then(|image| image.python.as_mut());
                let functions = python.map(|python| {
                    let (interpreter, memory) = (&python.interpreter, &python.memory);
                    python.functions.frames(interpreter, memory, &frames)
                });
                Some(Answer::Functions(functions))
            }
            Request::Imports => {
                let file = fd.and_then(|fd| Regular::of(fd).ok()?.open().ok());
                let read = file.and_then(|file| imports::read(&file));
                Some(Answer::Imports(read))
            }
            Request::Names { module, address } => Some(Answer::Names(self.names(module, address))),
        }
    }

    fn complete(&mut self, key: u32) -> Answer {
        let (elfs, image) = (&self.elfs, self.images.entry(key).or_default());
        let code = image.mappings.iter().map(|mapped| {
            let elf = mapped.module.and_then(|id| elfs.get(&id)?.as_ref());
            Code {
                addresses: mapped.start..mapped.end,
                bias: elf.and_then(|elf| elf.bias(mapped.start, mapped.offset)),
                elf,
            }
        });
        let code: Vec<_> = code.collect();
        image.unwinder = Some(Unwinder::new(&code));
        Answer::Biases(code.iter().map(|code| code.bias).collect())
    }

    fn find_python(
        &mut self,
        key: u32,
        modules: &[u32],
        thread_pointer: u64,
        memory: File,
    ) -> Result<PythonLayout, NotRead> {
        let image = self.images.get_mut(&key).ok_or(NotRead::NotYet)?;
        let mut find = |id: &u32| {
            let elf = self.elfs.get(id)?.as_ref()?;
            let symbols = self.interpreters.entry(*id);
            let symbols = (*symbols.or_insert_with(|| python::Symbols::read(&elf.file)))?;
            let mut mapped = image.mappings.iter();
            let mapped = mapped.find(|mapped| mapped.module == Some(*id))?;
            let symbols = symbols.moved(elf.bias(mapped.start, mapped.offset)?);
            Some(python::Interpreter::find(&memory, &symbols, thread_pointer))
        };
        // A program that only starts the library that the interpreter is in has no symbols of it.
        let all: Vec<_> = modules.iter().filter_map(&mut find).collect();
        let found = all.iter().position(Result::is_ok).unwrap_or(0);
        let found = all.into_iter().nth(found);
        let interpreter = found.unwrap_or(Err(NotRead::Unknown))?;
        let layout = interpreter.layout;
        image.python = Some(Python {
            memory,
            interpreter,
            functions: python::Functions::default(),
        });
        Ok(layout)
    }

    fn names(&mut self, module: u32, address: u64) -> Vec<Frame> {
        let Some(Some(elf)) = self.elfs.get(&module) else {
            return Vec::new();
        };
        let mut frames = self.symbols.frames(elf, address);
        if let [only] = &mut frames[..]
            && only.function.is_none()
        {
            only.function = self.go.name(elf, address);
        }
        frames
    }
}

/// A file by its fd, as a path that leads to it whatever it is called.
pub(in super::super) fn path_of(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
