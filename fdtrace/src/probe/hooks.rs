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
    load::{Loaded, Stacks, Wants},
    opening_calls,
    plan::{self, HOOKS, Hook, Place, Role, SLOT_HOOKS, TABLE_HOOKS},
    refusal::{advice, explain, one_line},
};

impl Loaded {
    /// All hooks of fentry or kprobe: those that raise alarms, those that follow tables, those of slots.
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
        let wanted = |hook: &&Hook| alarms || tables && hook.follows_tables();
        let of_tables = TABLE_HOOKS.iter().filter(|_| tables);
        let of_slots = SLOT_HOOKS.iter().filter(|_| slots);
        let all = HOOKS.iter().filter(wanted);
        for hook in all.chain(of_tables).chain(of_slots) {
            self.attach_hook(backend, hook, &mut coverage)?;
        }
        Ok(coverage)
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
        let how = self.attach_to(backend, hook, place, coverage)?;
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
        });
        Ok(true)
    }

    /// Attaches a hook to this function; how that has been done.
    fn attach_to(
        &mut self,
        backend: Backend,
        hook: &Hook,
        place: &Place,
        coverage: &mut Coverage,
    ) -> Result<Backend> {
        let mut how = backend;
        if place.trampolines.is_empty() {
            how = Backend::Kprobe;
        } else if how == Backend::Fentry && !place.is_locked && self.preempts {
            // A program on a trampoline that loses its CPU keeps others there from being told of.
            match self.attach_probes(place) {
                Ok(()) => return Ok(Backend::Kprobe),
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
        Ok(how)
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
