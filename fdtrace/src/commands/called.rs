//! Which processes call select(2), for whoever makes reports.

use anyhow::Result;
use aya::Ebpf;

use crate::{
    diagnose::cause::Cause,
    enrich::{process::has_ended, select::AskedSelect, stacks::Stacks},
    probe::selects::Selects,
};

/// What the kernel has seen of that; of a recording, nothing.
#[derive(Default)]
pub(super) struct Called(Option<Selects>);

impl Called {
    /// Of running programs.
    pub(super) fn live(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self(Some(Selects::take(ebpf)?)))
    }

    /// The largest number of fds in a call of this process, see `Select::Called`. `started_ns`: when it was started,
    /// nanoseconds since boot; 0: not known.
    pub(super) fn of(&self, pid: u32, started_ns: u64) -> Option<u32> {
        let cell = self.0.as_ref()?.of(pid)?;
        let is_same = if started_ns == 0 {
            !has_ended(pid, cell.started_ns)
        } else {
            cell.started_ns == started_ns
        };
        is_same.then_some(cell.most)
    }

    /// Asks whether a process uses select, where it is its own limit that was hit: nothing else is raised for it.
    pub(super) fn ask(
        &self,
        pid: u32,
        started_ns: u64,
        cause: Cause,
        stacks: &mut Stacks,
    ) -> AskedSelect {
        if self.0.is_none() || cause != Cause::RlimitNofile {
            return AskedSelect::default();
        }
        AskedSelect::ask(pid, self.of(pid, started_ns), stacks)
    }
}
