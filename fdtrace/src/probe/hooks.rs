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
    plan::{self, HOOKS, Hook, Role},
    refusal::{explain, one_line},
};

impl Loaded {
    /// All hooks of fentry or kprobe.
    pub(super) fn attach_hooks(&mut self, backend: Backend) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        for hook in HOOKS {
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
        Ok(coverage)
    }

    /// Attaches one hook to the first of its functions that is there; `None` if none is.
    fn attach_hook(&mut self, backend: Backend, hook: &Hook) -> Result<Option<&'static str>> {
        for function in hook.functions {
            if self.btf.function(function)?.is_none() {
                continue;
            }
            let start = Instant::now();
            let attached = if backend == Backend::Fentry {
                self.attach_fexit(hook.fexit, function)
            } else {
                self.attach_kretprobe(hook, function)
            };
            attached.map_err(|error| explain(backend, function, &error))?;
            debug!(
                "{function}: attached in {:?}, {:?} instructions verified so far",
                start.elapsed(),
                self.verified_instructions(),
            );
            return Ok(Some(function));
        }
        Ok(None)
    }

    fn attach_fexit(&mut self, program: &str, function: &str) -> Result<(), ProgramError> {
        let program: &mut FExit = find(&mut self.ebpf, program)?.try_into()?;
        program.load(function, &self.aya_btf)?;
        program.attach()?;
        Ok(())
    }

    fn attach_kretprobe(&mut self, hook: &Hook, function: &str) -> Result<(), ProgramError> {
        let needs_entry = plan::dup_fd_has_errorp(&self.btf).unwrap_or(false);
        let entry = hook.kprobe.filter(|_| needs_entry);
        for program in entry.into_iter().chain([hook.kretprobe]) {
            let program: &mut KProbe = find(&mut self.ebpf, program)?.try_into()?;
            program.load()?;
            program.attach(function, 0)?;
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
