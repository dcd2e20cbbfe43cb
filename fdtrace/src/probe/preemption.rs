//! Can a thread lose its CPU in the middle of a program?
//!
//! The kernel runs programs on trampolines under `rcu_read_lock` (`__bpf_prog_enter_recur` in
//! kernel/bpf/trampoline.c), which keeps the CPU only on kernels that never preempt themselves. Where it
//! does not, the next thread on that CPU finds the program busy and is not told of (`recursion_misses`),
//! for as long as its time slice lasts. Kprobes keep their CPU.

use std::io::Read;

use anyhow::Result;
use log::debug;
use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use super::btf::Btf;

/// Asks the kernel. Where it does not tell, the answer is yes: a kprobe costs more and misses nothing.
pub(super) fn preempts_programs(btf: &Btf) -> Result<bool> {
    // The counter of nested readers is there only where readers can be preempted (CONFIG_PREEMPT_RCU).
    match btf.field("task_struct", "rcu_read_lock_nesting") {
        Ok(_) => {}
        Err(error) if error.is_absent() => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let mode = mode();
    debug!("preemption: {mode:?}");
    Ok(mode.is_none_or(|text| is_preemptive(&text)))
}

/// The kernel's choice of the moment, as debugfs tells it: `none (voluntary) full lazy`.
///
/// Read through a mount that nobody else sees, since debugfs need not be mounted.
fn mode() -> Option<String> {
    let context = fsopen("debugfs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_create(&context).ok()?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let root = fsmount(&context, flags, MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(&root, "sched/preempt", flags, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_preemptive(text: &str) -> bool {
    let chosen = text.split_whitespace().find(|word| word.starts_with('('));
    !matches!(chosen, Some("(none)" | "(voluntary)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_counts() {
        assert!(!is_preemptive("none (voluntary) full \n"));
        assert!(!is_preemptive("(none) voluntary full\n"));
        assert!(is_preemptive("full (lazy)\n"));
        assert!(is_preemptive("none voluntary (full)\n"));
        assert!(is_preemptive("something else"));
    }
}
