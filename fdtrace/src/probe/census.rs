//! Every fd table on the host at this moment, by the kernel's task iterator.

use std::{fs::File, io::Read};

use anyhow::{Context, Result};
use aya::{Btf, Ebpf, programs::Iter};
use rustix::io::Errno;

use super::{attach::Session, backend::Backend, heap, targets::Targets};
use crate::ground::task::Task;

/// An iterator's program, and what it goes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iterator {
    pub(super) program: &'static str,
    /// As the kernel spells it.
    pub(super) over: &'static str,
}

/// A program that goes over all tasks.
pub(super) const fn tasks(program: &'static str) -> Iterator {
    Iterator {
        program,
        over: "task",
    }
}

/// A program that goes over all files of all tasks.
pub(super) const fn files(program: &'static str) -> Iterator {
    Iterator {
        program,
        over: "task_file",
    }
}

/// The census's own.
pub(super) const PROGRAM: Iterator = tasks("census_task");

/// The same, which also notes who is in select(2) (`selects`).
pub(super) const PROGRAM_CALLS: Iterator = tasks("census_task_calls");

/// The program that goes over all tasks where this backend follows them.
pub(super) fn program_of(backend: Backend) -> Iterator {
    match backend {
        Backend::Census => PROGRAM_CALLS,
        Backend::Fentry | Backend::Kprobe => PROGRAM,
    }
}

/// Reads all tables, each once for every process that has it. Tables too large for the program are counted
/// through /proc.
pub fn read(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<Task>> {
    read_by(ebpf, targets, PROGRAM)
}

/// The same for a session.
pub fn read_again(session: &mut Session) -> Result<Vec<Task>> {
    let program = program_of(session.backend);
    read_by(&mut session.ebpf, &session.targets, program)
}

fn read_by(ebpf: &mut Ebpf, targets: &Targets, program: Iterator) -> Result<Vec<Task>> {
    let mut tasks = Task::decode_all(&run(ebpf, targets, program)?)?;
    Task::one_a_table(&mut tasks);
    for task in &mut tasks {
        task.used = task.used.or_else(|| count_in_proc(task.tgid, task.tid));
    }
    Ok(tasks)
}

/// Runs an iterator program over all there is of `iterated`; what it wrote.
pub(super) fn run(ebpf: &mut Ebpf, targets: &Targets, iterator: Iterator) -> Result<Vec<u8>> {
    let mut output = open(ebpf, targets, iterator)?;
    read_to_end(&mut output).with_context(|| format!("reading the {} iterator", iterator.over))
}

/// Starts an iterator program: it runs as its output is read.
pub(super) fn open(ebpf: &mut Ebpf, targets: &Targets, iterator: Iterator) -> Result<File> {
    let program = loaded(ebpf, targets, iterator)?;
    let attached = program.attach();
    let link = attached.with_context(|| format!("attaching the {} iterator", iterator.over))?;
    Ok(program.take_link(link)?.into_file()?)
}

/// An iterator program, loaded when it is wanted first.
fn loaded<'a>(ebpf: &'a mut Ebpf, targets: &Targets, iterator: Iterator) -> Result<&'a mut Iter> {
    if program(ebpf, iterator)?.fd().is_err() {
        load(ebpf, &targets.iterators()?, iterator)?;
        heap::give_back();
    }
    program(ebpf, iterator)
}

/// Loads an iterator program by types that have been read already.
pub(super) fn load(ebpf: &mut Ebpf, types: &Btf, iterator: Iterator) -> Result<()> {
    let loaded = program(ebpf, iterator)?.load(iterator.over, types);
    loaded.with_context(|| format!("loading the {} iterator", iterator.over))
}

fn program(ebpf: &mut Ebpf, iterator: Iterator) -> Result<&mut Iter> {
    let program = ebpf
        .program_mut(iterator.program)
        .with_context(|| format!("no program {} in the kernel object", iterator.program))?;
    Ok(program.try_into()?)
}

/// Reads on where the kernel stops after a million silent objects with EAGAIN
/// (`kernel/bpf/bpf_iter.c`).
fn read_to_end(output: &mut File) -> std::io::Result<Vec<u8>> {
    // The kernel hands out a few pages at once.
    let mut bytes = Vec::with_capacity(64 * 1024);
    loop {
        match output.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The directory's size is the number of fds from 6.2 on (`fs/proc/fd.c`); its entries are counted
/// where that says 0.
fn count_in_proc(process: u32, thread: u32) -> Option<u32> {
    let directory = format!("/proc/{process}/task/{thread}/fd");
    let size = std::fs::metadata(&directory).ok()?.len();
    let count = if size > 0 {
        size
    } else {
        std::fs::read_dir(&directory).ok()?.count() as u64
    };
    u32::try_from(count).ok()
}
