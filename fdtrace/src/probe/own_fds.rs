//! How many files fdtrace itself will have open, before it begins: with fewer, the kernel's EMFILE would
//! look like a kernel that has no maps or no kprobes.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _};
use rustix::process::{Resource, getrlimit};

use super::{
    ask,
    backend::Backend,
    btf::Btf,
    load::Options,
    plan::{self, HOOKS, Hook, SLOT_HOOKS, TABLE_HOOKS},
    scope::Scope,
};

/// What runs above the kernel programs: tokio's two epolls, eventfd and socket pair for signals, the copy of
/// stdout, the recording, the sockets that tell where other sockets lead, and the one of the process that reads
/// programs.
const RUNTIME: u32 = 11;
/// Open for a moment, by several threads: an iterator and its link, folders and files of /proc, programs before they
/// are handed over, and what starts the process that reads them.
const MOMENTARY: u32 = 14;

/// What a run is going to load.
pub(super) struct Plan<'a> {
    /// The kernel object.
    pub(super) object: &'a [u8],
    /// The kernel's types.
    pub(super) btf: &'a Btf,
    /// What was asked for.
    pub(super) options: &'a Options<'a>,
    /// Whom it is about.
    pub(super) scope: &'a Scope,
    /// See `preemption`.
    pub(super) preempts: bool,
}

/// Refuses to begin with fewer fds than the run will take.
pub(super) fn check(plan: &Plan<'_>) -> Result<()> {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Ok(());
    };
    let needed = u64::from(open_now(limit)) + u64::from(plan.needed()?);
    if limit < needed {
        bail!("fdtrace needs {needed} open files, its limit is {limit}: ulimit -n {needed}");
    }
    Ok(())
}

/// Fds that are open already and count: an inherited one above the limit takes no number below it.
fn open_now(limit: u64) -> u32 {
    let folder = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let count = numbers.filter(|number| *number < limit).count();
    // One of them is the folder.
    u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1)
}

impl Plan<'_> {
    /// Fds for maps, programs, links and what runs above them, with the backend that takes the most of those
    /// that may be tried.
    fn needed(&self) -> Result<u32> {
        let mut backends = Backend::ALL.to_vec();
        backends.retain(|backend| self.options.backend.is_none_or(|wanted| wanted == *backend));
        let mut most = 0;
        for backend in backends {
            most = most.max(self.of_backend(backend)?);
        }
        let cgroups = u32::try_from(self.scope.cgroups.len())?;
        Ok(maps(self.object)? + most + cgroups + RUNTIME + MOMENTARY)
    }

    /// Programs, each with what counts its misses, and links. A program that is attached twice has two links.
    fn of_backend(&self, backend: Backend) -> Result<u32> {
        let (mut programs, mut links) = (BTreeSet::new(), 0);
        // Each link of a kprobe has a second fd, by which what it misses is read (`links`).
        let mut kprobes = 0;
        if backend == Backend::Census {
            if self.options.alarms {
                programs.insert(plan::SYS_EXIT);
                links += 1;
            }
        } else {
            for hook in self.hooks() {
                let (all, probes) = self.hook(backend, hook, &mut programs)?;
                links += all;
                kprobes += probes;
            }
            if self.options.alarms {
                programs.insert(plan::RAISE.0);
            }
        }
        programs.insert(ask::PROGRAM);
        if !self.scope.pids.is_empty() {
            programs.extend(plan::FOLLOW_TRACEPOINTS.map(|(program, _)| program));
            links += plan::FOLLOW_TRACEPOINTS.len();
        }
        let programs = programs.len() + plan::ITERATORS;
        Ok(u32::try_from(2 * programs + links + kprobes)?)
    }

    /// The hooks that will be attached.
    fn hooks(&self) -> impl Iterator<Item = &'static Hook> {
        let (alarms, tables) = (self.options.alarms, self.options.tables.is_some());
        let is_wanted = move |hook: &&Hook| alarms || tables && hook.follows_tables();
        let slots = self.options.slots;
        let of_tables = TABLE_HOOKS.iter().filter(move |_| tables);
        let of_slots = SLOT_HOOKS.iter().filter(move |_| slots);
        let others = of_tables.chain(of_slots);
        HOOKS.iter().filter(is_wanted).chain(others)
    }

    /// The links of a hook, and how many of them may be kprobes'; its programs are added to the others.
    fn hook(
        &self,
        backend: Backend,
        hook: &Hook,
        programs: &mut BTreeSet<&'static str>,
    ) -> Result<(usize, usize)> {
        let Some(place) = hook.place(self.btf)? else {
            return Ok((0, 0));
        };
        let by_probes = backend == Backend::Kprobe || place.trampolines.is_empty();
        // Tried first where the kernel interrupts programs on trampolines, which take over where it fails.
        let tries_both = !by_probes && self.preempts && !place.is_locked;
        let (mut links, mut kprobes) = (0, 0);
        if by_probes || tries_both {
            programs.extend(place.probes);
            kprobes = place.probes.len();
            links = kprobes;
        }
        if !by_probes {
            programs.extend(place.trampolines);
            links = links.max(place.trampolines.len());
        }
        // Tried before both; the last program can be attached more than once.
        if let Some(branch) = place.branch.filter(|_| self.options.slots) {
            programs.extend(branch.programs());
            kprobes = kprobes.max(branch.programs().count() + 1);
            links = links.max(kprobes);
        }
        Ok((links, kprobes))
    }
}

/// Maps of an object: those that it declares, and one for each section of data (`EbpfSectionKind` in aya-obj).
/// One more for its types.
fn maps(object: &[u8]) -> Result<u32> {
    const DATA: [&str; 3] = [".rodata", ".data", ".bss"];
    let file = File::parse(object).context("reading the kernel object")?;
    let named = |index| file.section_by_index(index).ok()?.name().ok();
    let is_of_map = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index().and_then(named);
        symbol.is_definition() && matches!(section, Some("maps" | ".maps"))
    };
    let declared = file.symbols().filter(is_of_map).count();
    let is_data = |name: &str| DATA.iter().any(|data| name.starts_with(data));
    let sections = file.sections();
    let data = sections.filter(|section| section.name().is_ok_and(is_data));
    Ok(u32::try_from(declared + data.count() + 1)?)
}
