//! Attaching one backend's programs, hook by hook.

use std::time::Instant;

use anyhow::Result;
use aya::{
    Ebpf,
    programs::{FExit, KProbe, Program, ProgramError, RawTracePoint},
};
use log::debug;

use super::{
    backend::{AttachedHook, Backend, Coverage},
    load::Loaded,
    plan::{self, HOOKS, Hook, Place, Role, TABLE_HOOKS, TABLE_TRACEPOINTS},
    refusal::{explain, one_line},
};

impl Loaded {
    /// All hooks of fentry or kprobe; with `tables` those that follow tables too.
    pub(super) fn attach_hooks(&mut self, backend: Backend, tables: bool) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        let table_hooks = if tables { TABLE_HOOKS } else { &[] };
        for hook in HOOKS.iter().chain(table_hooks) {
            match self.attach_hook(backend, hook) {
                Ok(Some(function)) => coverage.hooks.push(AttachedHook {
                    function: function.to_owned(),
                    sees: hook.sees,
                }),
                Ok(None) => coverage.lacks(hook)?,
                Err(error) if hook.role == Role::Required => return Err(error),
                Err(error) => {
                    coverage
                        .misses
                        .push(format!("{}: {}", hook.sees, one_line(&error)));
                }
            }
        }
        if tables {
            for (program, tracepoint) in TABLE_TRACEPOINTS {
                self.attach_raw_tracepoint(program, tracepoint)?;
            }
        }
        Ok(coverage)
    }

    /// Attaches one hook to the first of its functions that is there; `None` if none is.
    fn attach_hook(&mut self, backend: Backend, hook: &Hook) -> Result<Option<&'static str>> {
        for place in hook.places {
            if self.btf.function(place.function)?.is_none() {
                continue;
            }
            let start = Instant::now();
            let attached = if backend == Backend::Fentry {
                self.attach_trampoline(place)
            } else {
                self.attach_probes(place)
            };
            attached.map_err(|error| explain(backend, place.function, &error))?;
            debug!(
                "{}: attached in {:?}, {:?} instructions verified so far",
                place.function,
                start.elapsed(),
                self.verified_instructions(),
            );
            return Ok(Some(place.function));
        }
        Ok(None)
    }

    fn attach_trampoline(&mut self, place: &Place) -> Result<(), ProgramError> {
        match find(&mut self.ebpf, place.trampoline)? {
            Program::FEntry(program) => {
                program.load(place.function, &self.aya_btf)?;
                program.attach()?;
            }
            program => {
                let program: &mut FExit = program.try_into()?;
                program.load(place.function, &self.aya_btf)?;
                program.attach()?;
            }
        }
        Ok(())
    }

    fn attach_probes(&mut self, place: &Place) -> Result<(), ProgramError> {
        for program in place.probes {
            let program: &mut KProbe = find(&mut self.ebpf, program)?.try_into()?;
            program.load()?;
            program.attach(place.function, 0)?;
        }
        Ok(())
    }

    /// The census backend's one.
    pub(super) fn attach_census(&mut self) -> Result<Coverage> {
        self.attach_raw_tracepoint(plan::SYS_EXIT, plan::SYS_EXIT)?;
        Ok(Coverage {
            hooks: vec![AttachedHook {
                function: plan::SYS_EXIT.to_owned(),
                sees: "every system call that returns EMFILE or ENFILE",
            }],
            misses: plan::CENSUS_MISSES
                .iter()
                .map(ToString::to_string)
                .collect(),
            absent: Vec::new(),
        })
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
