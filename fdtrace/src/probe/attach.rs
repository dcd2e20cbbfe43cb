//! Choosing a backend by trying: attach, self-test, or the next one.

use anyhow::{Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use log::debug;

use super::{
    ask,
    backend::{self, Backend, Coverage, Rejected},
    cgroups::Cgroups,
    heap,
    load::{Loaded, Options, Stacks, load},
    maps,
    plan::{self, Role},
    proc_mount,
    refusal::one_line,
    requirements,
    scope::{Named, Scope},
    self_test,
    shared::{Changes, Openers, Shared},
    slots::Slots,
    targets::Targets,
};
use crate::stream::clock;

/// The programs in the kernel. Dropping it takes them out.
pub struct Session {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// What running programs are told, and what they count.
    pub shared: Shared,
    /// What iterators are attached to.
    pub targets: Targets,
    /// The backend that runs.
    pub backend: Backend,
    /// What it sees.
    pub coverage: Coverage,
    /// Better backends, and why they are not used.
    pub rejected: Vec<Rejected>,
    /// Of which opens the stack is taken.
    pub stacks: Stacks,
    /// The processes given by number.
    pub named: Vec<Named>,
    /// Their children are watched too.
    pub follows_children: bool,
    /// The cgroups given.
    pub cgroups: Cgroups,
}

/// The tick that a session begins with, see `Control::tick`.
pub const FIRST_TICK: u64 = 2;

/// Loads, attaches and proves the backend that is to run. From here on nothing in scope is missed:
/// records wait in the ring that comes with the session.
pub fn attach(options: &Options<'_>, scope: &Scope) -> Result<(Session, RingBuf<MapData>)> {
    let mut loaded = load(options, scope)?;
    let candidates = match options.backend {
        Some(backend) => vec![backend],
        None => Backend::ALL.to_vec(),
    };
    let mut rejected = Vec::new();
    for backend in candidates {
        match loaded.try_backend(backend) {
            Ok(mut coverage) => {
                let takes_stacks = options.stacks != Stacks::Never;
                if takes_stacks && !requirements::can_look_at_processes() {
                    coverage.misses.push(
                        "which line of code opens an fd in other users' processes: CAP_SYS_PTRACE \
                         is missing, without which nobody tells what they have mapped"
                            .to_owned(),
                    );
                }
                let gaps = proc_mount::gaps();
                coverage.misses.extend(gaps.iter().map(ToString::to_string));
                loaded.follow(scope)?;
                let cgroups = loaded.follow_cgroups(scope, &mut coverage)?;
                loaded.load_iterators(backend)?;
                ask::load(&mut loaded.ebpf)?;
                maps::clear_storms(&mut loaded.ebpf)?;
                let openers = match options.stacks {
                    Stacks::Always => Openers::All,
                    Stacks::Named | Stacks::Never => Openers::Nobody,
                };
                loaded.shared.arm(FIRST_TICK, Changes::All, openers);
                let Loaded {
                    mut ebpf,
                    ring,
                    shared,
                    targets,
                    btf,
                    branches,
                    ..
                } = loaded;
                drop(btf);
                branches.end(&mut ebpf);
                heap::give_back();
                let session = Session {
                    ebpf,
                    shared,
                    targets,
                    backend,
                    coverage,
                    rejected,
                    stacks: options.stacks,
                    named: scope.named.clone(),
                    follows_children: scope.follow,
                    cgroups,
                };
                return Ok((session, ring));
            }
            Err(error) => rejected.push(Rejected::new(backend, &error)),
        }
    }
    let mut reasons: Vec<_> = rejected
        .iter()
        .map(|rejected| {
            format!(
                "{} does not work here: {}",
                rejected.backend, rejected.reason
            )
        })
        .collect();
    reasons.extend(backend::all_advice(&rejected, None).map(str::to_owned));
    bail!("{}", reasons.join("; "))
}

/// Tries every backend, one after the other, and leaves none attached.
pub fn survey(options: &Options<'_>) -> Result<Vec<(Backend, Result<Coverage, Rejected>)>> {
    let mut loaded = load(options, &Scope::default())?;
    let mut try_one = |backend| {
        let outcome = loaded
            .try_backend(backend)
            .map_err(|error| Rejected::new(backend, &error));
        loaded.unload();
        (backend, outcome)
    };
    Ok(Backend::ALL.map(&mut try_one).into())
}

impl Loaded {
    /// Attaches one backend and has it prove itself; leaves nothing attached where it fails. What sits on branches of
    /// functions has to prove itself as well: where that fails, the functions are watched at their ends.
    fn try_backend(&mut self, backend: Backend) -> Result<Coverage> {
        let outcome = self.try_once(backend);
        match &outcome {
            Err(error) if self.branches.are_used() => {
                let reason = one_line(error);
                debug!("{backend} by branches: {reason}");
                self.branches.refuse(format!("by its branch, {reason}"));
                self.try_once(backend)
            }
            _ => outcome,
        }
    }

    fn try_once(&mut self, backend: Backend) -> Result<Coverage> {
        // Each failure is told as if it were the first.
        maps::clear_storms(&mut self.ebpf)?;
        self.shared.start_self_test();
        let attached = match backend {
            Backend::Fentry | Backend::Kprobe => self.attach_hooks(backend),
            Backend::Census => self.attach_census(),
        };
        let outcome = attached.and_then(|mut coverage| {
            let start = clock::own_cpu_time();
            if self.wants.alarms {
                self_test::alarm::run(&mut self.ring, backend)?;
                self.test_select(&mut coverage);
                self_test::alarm::counted_once(&self.ebpf, &self.shared)?;
            }
            if self.wants.tables && backend != Backend::Census {
                self_test::tables::run(&mut self.ring)?;
            }
            if self.wants.slots && backend != Backend::Census {
                self_test::slots::run(&Slots::of(&self.ebpf)?)?;
            }
            let time = clock::own_cpu_time().saturating_sub(start);
            debug!("self-test of {backend} passed, in {time:?} of CPU time");
            Ok(coverage)
        });
        if outcome.is_err() {
            self.unload();
        }
        outcome
    }

    /// A backend that does not see select is one all the same: what is missed is said.
    fn test_select(&self, coverage: &mut Coverage) {
        let hook = plan::HOOKS.iter().find(|hook| hook.role == Role::Remedy);
        let Some(hook) = hook else { return };
        let is_attached = coverage.hooks.iter().any(|it| it.sees == hook.sees);
        if is_attached && let Err(error) = self_test::select::run(&self.ebpf) {
            coverage.hooks.retain(|it| it.sees != hook.sees);
            let reason = one_line(&error);
            coverage.misses.push(format!("{}: {reason}", hook.sees));
        }
    }

    /// Keeps the set of watched processes up to date from here on.
    fn follow(&mut self, scope: &Scope) -> Result<()> {
        if scope.pids.is_empty() {
            return Ok(());
        }
        for (program, tracepoint) in plan::FOLLOW_TRACEPOINTS {
            self.attach_raw_tracepoint(program, tracepoint)?;
        }
        scope.add_descendants(&mut self.ebpf)
    }

    /// The same for the watched cgroups. Where no program can do that, it is one of the things that are missed.
    fn follow_cgroups(&mut self, scope: &Scope, coverage: &mut Coverage) -> Result<Cgroups> {
        if scope.cgroups.is_empty() {
            return Ok(Cgroups::default());
        }
        let mut hooks = plan::CGROUP_TRACEPOINTS.into_iter();
        let attached = hooks
            .try_for_each(|(program, tracepoint)| self.attach_raw_tracepoint(program, tracepoint));
        let cgroups = Cgroups::fill(&scope.cgroups, &mut self.ebpf, attached.is_ok())?;
        if cgroups.is_polled() {
            let reason = match &attached {
                Err(error) => one_line(error),
                Ok(()) => "its path from the root of the hierarchy is not known".to_owned(),
            };
            coverage.misses.push(format!(
                "the first second of a cgroup that is removed and made again (--cgroup): {reason}"
            ));
        }
        Ok(cgroups)
    }
}
