//! Where a function begins to fail: the one instruction that loads its errno.
//!
//! A probe at a function's end runs whenever the function ends: a program on a trampoline takes two hundred
//! instructions each time, one on a kretprobe six hundred. A probe on the instruction that only a failing call comes
//! to costs a success nothing. There is such an instruction where the compiler has made one of a function's `error =
//! -EMFILE`: that is looked for in the bytes of the running kernel, never derived from a version. None, or more than
//! one, and the function is watched at its end.
//!
//! Where a function lies is told by a probe at its beginning, in a call of fdtrace's own: that takes no more than fdtrace
//! has anyway, unlike /proc/kallsyms, which takes `CAP_SYSLOG` and 100 to 300 ms of instructions. Its bytes are read
//! by a program, as /proc/kcore takes `CAP_SYS_RAWIO`. What they mean is found in [`flow`], what of it is wanted in
//! [`places`].

mod flow;
mod places;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, RawTracePointRunOptions, TestRun as _,
    maps::{Array, MapData},
    programs::{KProbe, RawTracePoint, kprobe::KProbeLink},
};
use fdtrace_common::code::CODE_SIZE;
use log::debug;
use rustc_hash::FxHashMap;
use rustix::event::{EventfdFlags, eventfd};

pub(super) use self::places::Places;
use super::{plan::Branch, refusal::one_line};

/// The program that tells where a function lies, and its map.
const FINDER: (&str, &str) = ("find_code", "CODE_PLACES");
/// The program that reads, and the map that it reads into.
const READER: (&str, &str) = ("read_code", "CODE");
/// What a probe's program sees as the place of the probe: the byte behind the breakpoint, or where that would have been
/// (`kprobe_ftrace_handler` and `optimized_callback` in arch/x86/kernel/kprobes).
const BEHIND_BREAKPOINT: u64 = 1;

/// What has been found out about the functions of the plan.
#[derive(Debug, Default)]
pub(super) struct Branches {
    /// By function; the reason where it has no branch of use.
    known: FxHashMap<&'static str, Result<Places, String>>,
    /// Why none is used, whatever there is.
    refused: Option<String>,
    /// See [`Branches::are_used`].
    are_used: bool,
    finder: Finder,
}

/// The program that tells where functions lie, on all of those that have been asked for.
///
/// To take it away again, the kernel waits until no CPU can be in it, several times: 70 ms and more, in which no other
/// probe can be attached. That is left to a thread, when all others are.
#[derive(Debug, Default)]
struct Finder(Vec<KProbeLink>);

impl Branches {
    /// A program sits on one of them.
    pub(super) fn take(&mut self) {
        self.are_used = true;
    }

    /// Has a program been put on one of them?
    pub(super) fn are_used(&self) -> bool {
        self.are_used
    }

    /// From here on none is used.
    pub(super) fn refuse(&mut self, reason: String) {
        self.refused = Some(reason);
        self.are_used = false;
    }

    /// All probes are attached, and nothing more is looked for.
    pub(super) fn end(self, ebpf: &mut Ebpf) {
        if self.finder.0.is_empty() {
            return;
        }
        let unloaded = finder(ebpf).and_then(|program| Ok(program.unload()?));
        if let Err(error) = unloaded {
            debug!("{}: {error:#}", FINDER.0);
        }
        // Nobody waits for it: where fdtrace ends first, the kernel does the same.
        std::thread::spawn(|| drop(self.finder));
    }

    /// Where a function begins to fail; the reason where that is in no single place.
    pub(super) fn places(
        &mut self,
        ebpf: &mut Ebpf,
        function: &'static str,
        branch: &Branch,
    ) -> Result<Places, String> {
        if let Some(reason) = &self.refused {
            return Err(reason.clone());
        }
        let places = self.known.entry(function);
        let places = places.or_insert_with(|| {
            let start = Instant::now();
            let places = search(&mut self.finder, ebpf, function, branch);
            debug!("{function}: {places:x?} found in {:?}", start.elapsed());
            places
        });
        places.clone()
    }
}

fn search(
    finder: &mut Finder,
    ebpf: &mut Ebpf,
    function: &str,
    branch: &Branch,
) -> Result<Places, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("its code is not read on this architecture".to_owned());
    }
    let entry = finder
        .entry(ebpf, function)
        .map_err(|error| format!("where it lies is not known: {}", one_line(&error)))?;
    let mut reader = Reader::new(ebpf)
        .map_err(|error| format!("its code cannot be read: {}", one_line(&error)))?;
    let mut read = |address| {
        reader
            .read(address)
            .map_err(|error| format!("its code cannot be read: {}", one_line(&error)))
    };
    let places = places::find(entry, branch.errno, branch.handed_on.is_some(), &mut read);
    if let Err(error) = reader.end() {
        debug!("{error:#}");
    }
    places
}

impl Finder {
    /// Where a function lies that gives out a number or makes a file.
    fn entry(&mut self, ebpf: &mut Ebpf, function: &str) -> Result<u64> {
        let program = finder(ebpf)?;
        if program.fd().is_err() {
            program.load()?;
        }
        let link = program.attach(function, 0)?;
        self.0.push(program.take_link(link)?);
        eventfd(0, EventfdFlags::CLOEXEC)?;
        // The functions are called in the order in which they are asked for: this one as soon as the probe was there.
        let index = u32::try_from(self.0.len() - 1)?;
        let map = ebpf.map(FINDER.1).context("no map for it")?;
        let map: Array<&MapData, u64> = Array::try_from(map)?;
        match map.get(&index, 0)?.checked_sub(BEHIND_BREAKPOINT) {
            Some(entry) => Ok(entry),
            None => bail!("no call of it was seen"),
        }
    }
}

fn finder(ebpf: &mut Ebpf) -> Result<&mut KProbe> {
    let program = ebpf.program_mut(FINDER.0).context("no program for it")?;
    Ok(program.try_into()?)
}

/// Reads the kernel's memory.
struct Reader<'a>(&'a mut Ebpf);

impl<'a> Reader<'a> {
    fn new(ebpf: &'a mut Ebpf) -> Result<Self> {
        let mut reader = Self(ebpf);
        reader.program()?.load()?;
        Ok(reader)
    }

    fn program(&mut self) -> Result<&mut RawTracePoint> {
        let program = self.0.program_mut(READER.0).context("no program for it")?;
        Ok(program.try_into()?)
    }

    fn read(&mut self, address: u64) -> Result<Vec<u8>> {
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = address;
        options.args[1] = CODE_SIZE as u64;
        self.program()?.test_run(options)?;
        let map = self.0.map(READER.1).context("no map for it")?;
        let map: Array<&MapData, [u8; CODE_SIZE]> = Array::try_from(map)?;
        let code = map.get(&0, 0)?.to_vec();
        // The kernel clears what it cannot fill (`bpf_probe_read_kernel` in kernel/trace/bpf_trace.c); what a program on a
        // raw tracepoint returns is thrown away.
        if code.iter().all(|byte| *byte == 0) {
            bail!("nothing is at {address:#x}");
        }
        Ok(code)
    }

    fn end(mut self) -> Result<()> {
        Ok(self.program()?.unload()?)
    }
}
