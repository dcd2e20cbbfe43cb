//! Calls that a program did not see because it was running already, or because a probe had no room.
//!
//! A program that has been interrupted on a CPU by another thread is not entered a second time there:
//! the kernel skips it and counts (`__bpf_prog_enter_recur` in kernel/bpf/trampoline.c). On kernels
//! that preempt programs, a busy table can lose thousands of calls to one that lost its CPU. What kprobes miss
//! before they get to their program is another count ([`super::links`]).

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
};

use aya::Ebpf;
use log::debug;
use rustc_hash::FxHashMap;

use super::{
    links::KprobeLink,
    plan::{self, Purpose},
};

/// The kernel's own count for each running program, held open: reading it needs no free fd.
#[derive(Debug, Default)]
pub struct Misses {
    of_tables: Counts,
    of_slots: Counts,
    others: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    programs: Vec<File>,
    links: Vec<KprobeLink>,
}

/// Calls skipped since loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// By the programs through which tables are followed.
    pub of_tables: u64,
    /// By the programs that leave in slots when and by whom files were opened.
    pub of_slots: u64,
    /// By all others.
    pub others: u64,
}

impl Misses {
    /// Finds the counts of all programs that are loaded.
    #[must_use]
    pub fn of(ebpf: &Ebpf) -> Self {
        let mut misses = Self::default();
        let mut purposes = FxHashMap::default();
        for (name, program) in ebpf.programs() {
            let Ok(fd) = program.fd() else {
                continue;
            };
            let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let purpose = plan::purpose(name);
            purposes.extend(program.info().map(|info| (info.id(), purpose)));
            match File::open(&path) {
                Ok(file) => misses.counts(purpose).programs.push(file),
                Err(error) => debug!("{path}: {error}"),
            }
        }
        for link in KprobeLink::own(&purposes.keys().copied().collect()) {
            if let Some(purpose) = purposes.get(&link.program) {
                misses.counts(*purpose).links.push(link);
            }
        }
        misses
    }

    fn counts(&mut self, purpose: Purpose) -> &mut Counts {
        match purpose {
            Purpose::Tables => &mut self.of_tables,
            Purpose::Slots => &mut self.of_slots,
            Purpose::Others => &mut self.others,
        }
    }

    /// Calls skipped since loading.
    #[must_use]
    pub fn count(&self) -> Skipped {
        Skipped {
            of_tables: self.of_tables.sum(),
            of_slots: self.of_slots.sum(),
            others: self.others.sum(),
        }
    }
}

impl Counts {
    fn sum(&self) -> u64 {
        count(&self.programs) + self.links.iter().map(KprobeLink::missed).sum::<u64>()
    }
}

fn count(fdinfos: &[File]) -> u64 {
    let mut text = [0; 1024];
    let mut count = 0;
    for file in fdinfos {
        // From the start, where the kernel writes the text anew.
        let length = rustix::io::pread(file, &mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        count += recursion_misses(&text);
    }
    count
}

/// The field of a program's fdinfo (`bpf_prog_show_fdinfo` in kernel/bpf/syscall.c); kernels before
/// 5.12 have none, and nothing that it could count.
fn recursion_misses(fdinfo: &str) -> u64 {
    let field = |line: &str| line.strip_prefix("recursion_misses:")?.trim().parse().ok();
    fdinfo.lines().find_map(field).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_or_counts_nothing() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nrun_cnt:\t9\nrecursion_misses:\t34977\n";
        assert_eq!(recursion_misses(fdinfo), 34977);
        assert_eq!(recursion_misses("pos:\t0\nprog_type:\t26\n"), 0);
    }
}
