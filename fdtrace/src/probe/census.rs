//! Every fd table on the host at this moment, by the kernel's task iterator.

use std::{fs::File, io::Read};

use anyhow::{Context, Result};
use aya::{Ebpf, programs::Iter};
use rustix::io::Errno;

use super::{heap, targets::Targets};
use crate::stream::decode::Task;

/// The iterator's program.
const PROGRAM: &str = "census_task";

/// Reads all tables. Tables too large for the program are counted through /proc.
pub fn read(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<Task>> {
    let mut tasks = Task::decode_all(&run(ebpf, targets, PROGRAM, "task")?)?;
    for task in &mut tasks {
        task.used = task.used.or_else(|| count_in_proc(task.tgid, task.tid));
    }
    Ok(tasks)
}

/// Runs an iterator program over all there is of `iterated`; what it wrote.
pub(super) fn run(
    ebpf: &mut Ebpf,
    targets: &Targets,
    name: &str,
    iterated: &str,
) -> Result<Vec<u8>> {
    let mut output = open(ebpf, targets, name, iterated)?;
    read_to_end(&mut output).with_context(|| format!("reading the {iterated} iterator"))
}

/// Starts an iterator program: it runs as its output is read.
pub(super) fn open(ebpf: &mut Ebpf, targets: &Targets, name: &str, iterated: &str) -> Result<File> {
    let program: &mut Iter = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name} in the kernel object"))?
        .try_into()?;
    if program.fd().is_err() {
        let types = targets.iterators()?;
        let loaded = program.load(iterated, &types);
        loaded.with_context(|| format!("loading the {iterated} iterator"))?;
        drop(types);
        heap::give_back();
    }
    let attached = program.attach();
    let link = attached.with_context(|| format!("attaching the {iterated} iterator"))?;
    Ok(program.take_link(link)?.into_file()?)
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
