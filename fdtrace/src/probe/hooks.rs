//! Attaching one backend's programs, hook by hook.

use std::time::Instant;

use anyhow::Result;
use aya::{
    Ebpf,
    maps::ProgramArray,
    programs::{FExit, KProbe, Program, ProgramError, RawTracePoint},
};
use log::debug;

use super::{
    backend::{AttachedHook, Backend, Coverage},
    branch::Places,
    load::{Loaded, Stacks, Wants},
    opening_calls,
    plan::{self, Branch, HOOKS, Hook, Place, Role, SLOT_HOOKS, TABLE_HOOKS},
    refusal::{advice, explain, one_line},
};

impl Loaded {
    /// All hooks of fentry or kprobe: those that raise alarms, those that follow tables.
    pub(super) fn attach_hooks(&mut self, backend: Backend) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        if self.wants.alarms {
            self.load_raise()
                .map_err(|error| explain(Backend::Kprobe, plan::RAISE.0, &error))?;
        }
        let Wants {
            alarms,
            tables,
            slots,
            ..
        } = self.wants;
        let wanted = move |hook: &&Hook| alarms || tables && hook.follows_tables();
        let of_tables = TABLE_HOOKS.iter().filter(move |_| tables);
        let of_slots = SLOT_HOOKS.iter().filter(move |_| slots);
        let others = of_tables.chain(of_slots);
        let all = || HOOKS.iter().filter(wanted).chain(others.clone());
        // Soon after there is a probe that can become a jump, the kernel makes it one, and has others wait for a quarter of
        // a second (`kprobe_optimizer` in kernel/kprobes.c): those that it can do that with come last, together.
        let by_branches = self.by_branches();
        let (last, first): (Vec<_>, Vec<_>) =
            all().partition(|hook| by_branches && hook.has_branch());
        for hook in first {
            self.attach_hook(backend, hook, &mut coverage)?;
        }
        for hook in &last {
            self.prepare_branch(hook)?;
        }
        for hook in last {
            self.attach_hook(backend, hook, &mut coverage)?;
        }
        let place = |attached: &AttachedHook| {
            all().position(|hook| {
                hook.places
                    .iter()
                    .any(|place| place.function == attached.function)
            })
        };
        coverage.hooks.sort_by_key(place);
        Ok(coverage)
    }

    /// Failures are caught on the branches that only they take: so far with slots alone, as the start takes longer.
    fn by_branches(&self) -> bool {
        self.wants.slots
    }

    /// Loads the program that raises alarms for all probes, and tells them of it.
    fn load_raise(&mut self) -> Result<(), ProgramError> {
        let (name, map) = plan::RAISE;
        let program: &mut KProbe = find(&mut self.ebpf, name)?.try_into()?;
        program.load()?;
        let program = program.fd()?.try_clone()?;
        let map = self.ebpf.map_mut(map).ok_or(ProgramError::NotLoaded)?;
        ProgramArray::try_from(map)?.set(0, &program, 0)?;
        Ok(())
    }

    /// Attaches one hook, or takes down why not.
    fn attach_hook(
        &mut self,
        backend: Backend,
        hook: &Hook,
        coverage: &mut Coverage,
    ) -> Result<()> {
        match self.attach_somewhere(backend, hook, coverage) {
            Ok(true) => Ok(()),
            Ok(false) => coverage.lacks(hook),
            Err(error) if hook.role == Role::Required => Err(error),
            Err(error) => {
                let reason = one_line(&error);
                coverage.misses.push(format!("{}: {reason}", hook.sees));
                coverage.advise(advice(&error));
                Ok(())
            }
        }
    }

    /// Attaches one hook to the first of its functions that is there; false if none is.
    fn attach_somewhere(
        &mut self,
        backend: Backend,
        hook: &Hook,
        coverage: &mut Coverage,
    ) -> Result<bool> {
        let Some(place) = hook.place(&self.btf)? else {
            return Ok(false);
        };
        if self.without_hook.as_deref() == Some(place.function) {
            return Ok(true);
        }
        let start = Instant::now();
        let (how, at) = self.attach_to(backend, hook, place, coverage)?;
        debug!(
            "{}: {how} attached in {:?}, {:?} instructions verified so far",
            place.function,
            start.elapsed(),
            self.verified_instructions(),
        );
        coverage.hooks.push(AttachedHook {
            function: place.function.to_owned(),
            how,
            sees: hook.sees,
            place: at,
        });
        Ok(true)
    }

    /// Attaches a hook to this function; how that has been done, and where in the function if there is a choice.
    fn attach_to(
        &mut self,
        backend: Backend,
        hook: &Hook,
        place: &'static Place,
        coverage: &mut Coverage,
    ) -> Result<(Backend, Option<String>)> {
        let mut how = backend;
        let mut at = None;
        if let Some(branch) = place.branch.filter(|_| self.by_branches()) {
            match self.attach_branch(place, branch) {
                Ok(offset) => {
                    let at = format!("its failing branch, at +{offset:#x}");
                    return Ok((Backend::Kprobe, Some(at)));
                }
                Err(reason) => at = Some(format!("its end: {reason}")),
            }
        }
        if place.trampolines.is_empty() {
            how = Backend::Kprobe;
        } else if how == Backend::Fentry && !place.is_locked && self.preempts {
            // A program on a trampoline that loses its CPU keeps others there from being told of.
            match self.attach_probes(place) {
                Ok(()) => return Ok((Backend::Kprobe, at)),
                Err(error) => {
                    let error = explain(Backend::Kprobe, place.function, &error);
                    let reason = one_line(&error);
                    coverage.misses.push(format!(
                        "{}, where the kernel interrupts the hook: {reason}",
                        hook.sees
                    ));
                    coverage.advise(advice(&error));
                }
            }
        }
        let attached = if how == Backend::Fentry {
            self.attach_trampolines(place)
        } else {
            self.attach_probes(place)
        };
        attached.map_err(|error| explain(how, place.function, &error))?;
        Ok((how, at))
    }

    /// Finds the branch of a hook's function, and loads the programs for it. What fails is told when they are attached.
    fn prepare_branch(&mut self, hook: &Hook) -> Result<()> {
        let Some(place) = hook.place(&self.btf)? else {
            return Ok(());
        };
        let Some(branch) = place.branch else {
            return Ok(());
        };
        let places = self.branches.places(&mut self.ebpf, place.function, branch);
        if places.is_ok() && self.without_hook.as_deref() != Some(place.function) {
            for name in branch.programs() {
                if let Ok(Program::KProbe(program)) = find(&mut self.ebpf, name)
                    && let Err(error) = program.load()
                {
                    debug!("{name}: {error}");
                }
            }
        }
        Ok(())
    }

    /// Attaches programs to the instructions by which a function fails; how far into it its own is, or why not.
    fn attach_branch(&mut self, place: &'static Place, branch: &Branch) -> Result<u64, String> {
        let places = self
            .branches
            .places(&mut self.ebpf, place.function, branch)?;
        let attached = self.attach_branch_at(branch, &places);
        if let Err(error) = attached {
            for program in branch.programs() {
                if let Ok(Program::KProbe(program)) = find(&mut self.ebpf, program) {
                    // One that is not loaded is what is wanted.
                    let _ = program.unload();
                }
            }
            let error = explain(Backend::Kprobe, place.function, &error);
            return Err(format!("at +{:#x}, {}", places.offset(), one_line(&error)));
        }
        self.branches.take();
        Ok(places.offset())
    }

    fn attach_branch_at(&mut self, branch: &Branch, places: &Places) -> Result<(), ProgramError> {
        self.attach_at(branch.program, &[places.own])?;
        if let Some([handed_on, behind]) = branch.handed_on {
            self.attach_at(handed_on, places.handed_on.as_slice())?;
            self.attach_at(behind, &places.behind)?;
        }
        Ok(())
    }

    /// Attaches a program to kernel addresses.
    fn attach_at(&mut self, program: &str, addresses: &[u64]) -> Result<(), ProgramError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let program: &mut KProbe = find(&mut self.ebpf, program)?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        for address in addresses {
            // Without a function's name what is its offset elsewhere is the address itself (`perf_kprobe_init` in
            // kernel/trace/trace_event_perf.c; both are one member of `perf_event_attr`).
            program.attach("", *address)?;
        }
        Ok(())
    }

    fn attach_trampolines(&mut self, place: &Place) -> Result<(), ProgramError> {
        if self.types.is_none() {
            self.types = Some(self.targets.all()?);
        }
        let Some(types) = &self.types else {
            return Err(ProgramError::NotLoaded);
        };
        for program in place.trampolines {
            match find(&mut self.ebpf, program)? {
                Program::FEntry(program) => {
                    program.load(place.function, types)?;
                    program.attach()?;
                }
                program => {
                    let program: &mut FExit = program.try_into()?;
                    program.load(place.function, types)?;
                    program.attach()?;
                }
            }
        }
        Ok(())
    }

    fn attach_probes(&mut self, place: &Place) -> Result<(), ProgramError> {
        for program in place.probes {
            let program: &mut KProbe = find(&mut self.ebpf, program)?.try_into()?;
            // Hooks can share a program.
            if program.fd().is_err() {
                program.load()?;
            }
            program.attach(place.function, 0)?;
        }
        Ok(())
    }

    /// The census backend's one.
    pub(super) fn attach_census(&mut self) -> Result<Coverage> {
        if self.wants.stacks != Stacks::Never {
            opening_calls::fill(&mut self.ebpf)?;
        }
        if !self.wants.alarms {
            return Ok(self.attach_for_stacks());
        }
        self.attach_raw_tracepoint(plan::SYS_EXIT, plan::SYS_EXIT)?;
        Ok(Coverage {
            hooks: vec![AttachedHook {
                function: plan::SYS_EXIT.to_owned(),
                how: Backend::Census,
                sees: "every system call that returns EMFILE or ENFILE",
                place: None,
            }],
            misses: plan::CENSUS_MISSES
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..Coverage::default()
        })
    }

    /// Where nobody wants to hear of failures, the same program tells the stacks of those who open. Without it, they
    /// are missing and nothing else is.
    fn attach_for_stacks(&mut self) -> Coverage {
        let mut coverage = Coverage::default();
        if self.wants.stacks != Stacks::Never
            && let Err(error) = self.attach_raw_tracepoint(plan::SYS_EXIT, plan::SYS_EXIT)
        {
            let reason = one_line(&error);
            let missed = format!("which line of code opens an fd (--stacks): {reason}");
            coverage.misses.push(missed);
        }
        coverage
    }

    /// One program on a raw tracepoint.
    pub(super) fn attach_raw_tracepoint(&mut self, program: &str, tracepoint: &str) -> Result<()> {
        let attach = || -> Result<(), ProgramError> {
            let program: &mut RawTracePoint = find(&mut self.ebpf, program)?.try_into()?;
            program.load()?;
            program.attach(tracepoint)?;
            Ok(())
        };
        let mut attach = attach;
        attach().map_err(|error| explain(Backend::Census, tracepoint, &error))
    }
}

fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)
}
