//! How often fdtrace's own programs have run, and for how long, where the kernel counts that.
//!
//! Counting costs each run of every program on the host two readings of the clock, so that fdtrace does not ask for it
//! unasked: with -v it does, and where an administrator has (`kernel.bpf_stats_enabled`) it reads what is there.

use std::{fs, os::fd::OwnedFd};

use aya::{
    Ebpf,
    sys::{Stats, enable_stats},
};
use log::debug;
use serde::Serialize;

/// What one program has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramRuns {
    /// Which one, as in fdtrace's kernel object; a kernel shows the first 15 bytes.
    pub program: String,
    /// How often it was run.
    pub runs: u64,
    /// How long that took in all, nanoseconds.
    pub ns: u64,
}

/// Whether the kernel counts.
#[derive(Debug, Default)]
pub struct Runs {
    /// It does for as long as this is open.
    asked: Option<OwnedFd>,
    /// It does whoever asks, by `kernel.bpf_stats_enabled`.
    is_set: bool,
}

impl Runs {
    /// Finds out whether it counts already; has it count where `is_wanted`.
    #[must_use]
    pub fn start(is_wanted: bool) -> Self {
        let asked = is_wanted.then(|| enable_stats(Stats::RunTime));
        let asked = match asked.transpose() {
            Ok(asked) => asked,
            Err(error) => {
                debug!("runs of programs are not counted: {error}");
                None
            }
        };
        let setting = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled");
        let is_set = setting.is_ok_and(|setting| setting.trim() == "1");
        Self { asked, is_set }
    }

    /// What each program has done that has run; `None` where nobody counts.
    #[must_use]
    pub fn of(&self, ebpf: &Ebpf) -> Option<Vec<ProgramRuns>> {
        let programs = ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(ProgramRuns {
                program: name.to_owned(),
                runs: info.run_count(),
                ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            })
        });
        let is_counted = self.asked.is_some() || self.is_set;
        is_counted.then(|| {
            let mut programs: Vec<_> = programs.filter(|program| program.runs > 0).collect();
            programs.sort_by(|one, other| one.program.cmp(&other.program));
            programs
        })
    }
}
