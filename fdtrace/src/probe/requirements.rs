//! What must be there before any of this can work, checked in the order in which people can help it.

use anyhow::{Result, bail};
use rustix::thread::CapabilitySet;

use super::proc_mount;

/// Can this process load and attach programs at all? The first thing that keeps it from that.
pub fn check() -> Result<()> {
    match problems().into_iter().next() {
        Some(problem) => bail!(problem),
        None => Ok(()),
    }
}

/// Everything that keeps this process from loading and attaching programs, each with what to do.
#[must_use]
pub fn problems() -> Vec<String> {
    let mut problems = Vec::new();
    let missing = missing_capabilities();
    if !missing.is_empty() {
        problems.push(format!(
            "{} missing: run fdtrace as root (sudo fdtrace …), or allow it to everybody who can run \
             the program (sudo setcap cap_bpf,cap_perfmon=ep {})",
            missing.join(" and "),
            own_path(),
        ));
    }
    if let Some(fault) = proc_mount::fault() {
        problems.push(fault.to_string());
    }
    if lockdown().as_deref() == Some("confidentiality") {
        problems.push(
            "the kernel is locked down for confidentiality, which keeps all programs from reading \
             kernel memory: boot with lockdown=integrity, or without lockdown"
                .to_owned(),
        );
    }
    problems
}

/// The capabilities fdtrace cannot do without and does not have; `CAP_SYS_ADMIN` stands for both.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    let effective =
        rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    let missing = needed
        .into_iter()
        .filter(|(capability, _)| !effective.contains(*capability));
    missing.map(|(_, name)| name).collect()
}

/// Does fdtrace have this capability now?
pub(super) fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// May this process look at what others have mapped? (`proc_pid_maps_operations` in `fs/proc/task_mmu.c`:
/// `PTRACE_MODE_READ`)
#[must_use]
pub fn can_look_at_processes() -> bool {
    has(CapabilitySet::SYS_PTRACE)
}

/// Where the program lies, for a command to be typed.
fn own_path() -> String {
    let path = std::env::current_exe().ok();
    path.map_or_else(|| "fdtrace".to_owned(), |path| path.display().to_string())
}

/// The lockdown mode in force: `none`, `integrity` or `confidentiality`; `None` where it is unknown.
#[must_use]
pub fn lockdown() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    chosen(&text)
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_in_force() {
        assert_eq!(
            chosen("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen("none"), None);
    }
}
