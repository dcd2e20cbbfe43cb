//! What must be there before any of this can work, checked in the order in which people can help it.

use anyhow::{Result, bail};
use rustix::thread::CapabilitySet;

/// Can this process load and attach programs at all?
pub fn check() -> Result<()> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        bail!(
            "{} missing: run fdtrace as root (sudo fdtrace …), or allow it to everybody who can run \
             the program (sudo setcap cap_bpf,cap_perfmon=ep {})",
            missing.join(" and "),
            own_path(),
        );
    }
    if !is_initial_pid_namespace() {
        bail!(
            "fdtrace runs in a pid namespace of its own, as in a container, where the host's process \
             numbers mean nothing: run it in the host's (docker run --pid=host, nsenter -t 1 -p)"
        );
    }
    if lockdown().as_deref() == Some("confidentiality") {
        bail!(
            "the kernel is locked down for confidentiality, which keeps all programs from reading \
             kernel memory: boot with lockdown=integrity, or without lockdown"
        );
    }
    Ok(())
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

/// May this process look at what others have mapped? (`proc_pid_maps_operations` in `fs/proc/task_mmu.c`:
/// `PTRACE_MODE_READ`)
#[must_use]
pub fn can_look_at_processes() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// Where the program lies, for a command to be typed.
fn own_path() -> String {
    let path = std::env::current_exe().ok();
    path.map_or_else(|| "fdtrace".to_owned(), |path| path.display().to_string())
}

/// Do the kernel and this process number processes alike? The initial pid namespace always has this
/// inode (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
fn is_initial_pid_namespace() -> bool {
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
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
