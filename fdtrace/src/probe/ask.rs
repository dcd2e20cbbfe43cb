//! Entries of maps that hooks use, read and written by a program in a test run.
//!
//! bpf(2) would keep the programs on kprobes from being entered meanwhile: see `ask` in the kernel programs.

use anyhow::{Context as _, Result};
use aya::{Ebpf, RawTracePointRunOptions, TestRun as _, programs::RawTracePoint};
use fdtrace_common::{
    alarm::StormKey,
    ask::{ASK_ADD, ASK_READ, ASK_REMOVE, ASK_STACKS, ASK_STORM, ASK_WATCHED, DONE},
};
use zerocopy::IntoBytes as _;

use super::words::Words;

pub(super) const PROGRAM: &str = "ask";

/// Loads the program.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<()> {
    let program = ebpf
        .program_mut(PROGRAM)
        .with_context(|| format!("no program {PROGRAM} in the kernel object"))?;
    let program: &mut RawTracePoint = program.try_into()?;
    Ok(program.load()?)
}

/// Sets of tables, by the addresses of their `files_struct`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tables {
    Watched,
    Stacks,
}

impl Tables {
    fn map(self) -> u64 {
        match self {
            Self::Watched => ASK_WATCHED,
            Self::Stacks => ASK_STACKS,
        }
    }

    /// False: there is no room.
    pub(super) fn add(self, ebpf: &Ebpf, table: u64) -> Result<bool> {
        Ok(is_done(&run(ebpf, ASK_ADD, self.map(), &[table])?))
    }

    /// False: it was not there.
    pub(super) fn remove(self, ebpf: &Ebpf, table: u64) -> Result<bool> {
        Ok(is_done(&run(ebpf, ASK_REMOVE, self.map(), &[table])?))
    }
}

/// Failures of a kind on a CPU; `None`: none has been counted.
pub(super) fn failures(ebpf: &Ebpf, key: &StormKey) -> Result<Option<u64>> {
    let answer = run(ebpf, ASK_READ, ASK_STORM, &words(key))?;
    Ok(is_done(&answer).then(|| answer.load(0)))
}

/// Makes room in the kernel's map. False: there was nothing.
pub(super) fn forget(ebpf: &Ebpf, key: &StormKey) -> Result<bool> {
    Ok(is_done(&run(ebpf, ASK_REMOVE, ASK_STORM, &words(key))?))
}

fn words(key: &StormKey) -> Vec<u64> {
    let (words, _) = key.as_bytes().as_chunks();
    words.iter().copied().map(u64::from_ne_bytes).collect()
}

fn is_done(answer: &Words) -> bool {
    answer.load(1) == DONE
}

fn run(ebpf: &Ebpf, what: u64, map: u64, key: &[u64]) -> Result<Words> {
    let answer = Words::map(ebpf, "ANSWER", 16)?;
    answer.store(1, 0);
    let program = ebpf
        .program(PROGRAM)
        .with_context(|| format!("no program {PROGRAM} in the kernel object"))?;
    let program: &RawTracePoint = program.try_into()?;
    let mut options = RawTracePointRunOptions::new();
    (options.args[0], options.args[1]) = (what, map);
    for (argument, word) in options.args[2..].iter_mut().zip(key) {
        *argument = *word;
    }
    program.test_run(options)?;
    Ok(answer)
}
