//! What it means when the kernel refuses a program, in one line.

use std::path::Path;

use anyhow::anyhow;
use aya::programs::{KProbeError, ProgramError};
use log::debug;
use rustix::{io::Errno, thread::CapabilitySet};

use super::{backend::Backend, requirements};

/// The kernel refuses a program, for a reason that whoever runs fdtrace can remove.
#[derive(Debug, thiserror::Error)]
#[error("{refused}")]
pub(super) struct Refusal {
    /// What, and what it means.
    refused: String,
    /// What to do about it.
    advice: String,
}

/// What decides how an errno is to be read. Nothing of it is looked at before the kernel has refused something.
#[derive(Clone, Debug, Default)]
struct Conditions {
    missing_capabilities: Vec<&'static str>,
    is_admin: bool,
    has_kprobes: bool,
    /// `kernel.perf_event_paranoid`.
    paranoid: Option<i64>,
}

impl Conditions {
    fn now() -> Self {
        let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        Self {
            missing_capabilities: requirements::missing_capabilities(),
            is_admin: requirements::has(CapabilitySet::SYS_ADMIN),
            has_kprobes: Path::new("/sys/bus/event_source/devices/kprobe").exists(),
            paranoid: paranoid.ok().and_then(|text| text.trim().parse().ok()),
        }
    }
}

/// Says in one line what a refusal means.
pub(super) fn explain(backend: Backend, function: &str, error: &ProgramError) -> anyhow::Error {
    debug!("{function}: {error}");
    explain_under(&Conditions::now(), backend, function, error)
}

fn explain_under(
    conditions: &Conditions,
    backend: Backend,
    function: &str,
    error: &ProgramError,
) -> anyhow::Error {
    let (step, io_error) = match error {
        ProgramError::LoadError { io_error, .. } => ("load", Some(io_error)),
        ProgramError::SyscallError(error) => (error.call, Some(&error.io_error)),
        ProgramError::KProbeError(KProbeError::FileError { io_error, .. }) => {
            ("attach", Some(io_error))
        }
        _ => ("attach", None),
    };
    let Some(io_error) = io_error else {
        return anyhow!("{function}: {}", first_line(&error.to_string()));
    };
    let (meaning, advice) = meaning(conditions, backend, step, Errno::from_io_error(io_error));
    let refused = format!("{function}: {step}: {io_error}{meaning}");
    match advice {
        Some(advice) => Refusal { refused, advice }.into(),
        None => anyhow!(refused),
    }
}

/// What an errno means, and what to do, where something can be done.
fn meaning(
    conditions: &Conditions,
    backend: Backend,
    step: &str,
    errno: Option<Errno>,
) -> (String, Option<String>) {
    let is_denied = matches!(errno, Some(Errno::PERM | Errno::ACCESS));
    let missing = &conditions.missing_capabilities;
    if is_denied && !missing.is_empty() {
        // Said first of all as what is missing, with what to do.
        return (format!(": {} missing", missing.join(" and ")), None);
    }
    if is_denied && step == "perf_event_open" && !conditions.is_admin {
        // Debian's and Ubuntu's own level, above mainline's 2: `perf_paranoid_any` in
        // kernel/events/core.c of theirs.
        return match conditions.paranoid {
            Some(paranoid @ 3..) => (
                format!(": kernel.perf_event_paranoid is {paranoid}"),
                Some(format!(
                    "kernel.perf_event_paranoid is {paranoid}, which keeps kprobes from programs without \
                     CAP_SYS_ADMIN: sysctl kernel.perf_event_paranoid=2, or add cap_sys_admin to the \
                     program's capabilities, or run it as root"
                )),
            ),
            _ => (
                ": a security module or a seccomp filter refuses perf events".to_owned(),
                None,
            ),
        };
    }
    let meaning = match (backend, errno) {
        (Backend::Fentry, Some(Errno::PERM)) => {
            ": this kernel refuses programs that need a trampoline"
        }
        (Backend::Fentry, Some(Errno::OPNOTSUPP)) => ": no trampolines on this kernel",
        (Backend::Kprobe, _) if !conditions.has_kprobes => {
            ": this kernel has no kprobes (CONFIG_KPROBES)"
        }
        _ => "",
    };
    (meaning.to_owned(), None)
}

/// What whoever runs fdtrace can do about a refusal.
pub(super) fn advice(error: &anyhow::Error) -> Option<&str> {
    let refusal = error.downcast_ref::<Refusal>()?;
    Some(&refusal.advice)
}

/// An error and its causes, without the pages that a verifier writes.
pub(super) fn one_line(error: &anyhow::Error) -> String {
    first_line(&format!("{error:#}")).to_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    fn refusal(call: &'static str, errno: Errno) -> ProgramError {
        ProgramError::SyscallError(SyscallError {
            call,
            io_error: io::Error::from(errno),
        })
    }

    /// A kernel that has everything, and an fdtrace that may do everything.
    fn well() -> Conditions {
        Conditions {
            is_admin: true,
            has_kprobes: true,
            paranoid: Some(2),
            ..Conditions::default()
        }
    }

    #[test]
    fn a_refusal_says_where_and_what_it_means() {
        let well = well();
        let error = refusal("bpf_raw_tracepoint_open", Errno::OPNOTSUPP);
        let text = explain_under(&well, Backend::Fentry, "alloc_fd", &error).to_string();
        assert_eq!(
            text,
            "alloc_fd: bpf_raw_tracepoint_open: Operation not supported (os error 95): \
             no trampolines on this kernel"
        );
        let error = refusal("bpf_raw_tracepoint_open", Errno::PERM);
        let text = explain_under(&well, Backend::Fentry, "alloc_fd", &error).to_string();
        assert!(
            text.ends_with("refuses programs that need a trampoline"),
            "{text}"
        );
        let text = explain_under(&well, Backend::Census, "sys_exit", &error).to_string();
        assert!(text.ends_with("(os error 1)"), "{text}");
    }

    #[test]
    fn kprobes_that_the_kernel_does_not_have_are_named() {
        let error = KProbeError::FileError {
            filename: "/sys/bus/event_source/devices/kprobe/type".into(),
            io_error: io::Error::from(Errno::NOENT),
        };
        let error = error.into();
        let meaning = "this kernel has no kprobes (CONFIG_KPROBES)";
        let text = explain_under(&well(), Backend::Kprobe, "alloc_fd", &error).to_string();
        assert!(text.starts_with("alloc_fd: attach: No such file"), "{text}");
        assert!(!text.contains(meaning), "{text}");
        let without = Conditions {
            has_kprobes: false,
            ..well()
        };
        let text = explain_under(&without, Backend::Kprobe, "alloc_fd", &error).to_string();
        assert!(text.ends_with(meaning), "{text}");
    }

    #[test]
    fn what_is_missing_is_blamed_before_the_kernel() {
        let conditions = Conditions {
            missing_capabilities: vec!["CAP_PERFMON"],
            ..Conditions::default()
        };
        let error = refusal("bpf_prog_load", Errno::PERM);
        for backend in Backend::ALL {
            let error = explain_under(&conditions, backend, "alloc_fd", &error);
            assert_eq!(
                error.to_string(),
                "alloc_fd: bpf_prog_load: Operation not permitted (os error 1): CAP_PERFMON missing"
            );
            assert_eq!(advice(&error), None);
        }
    }

    #[test]
    fn a_paranoid_kernel_is_named_with_the_way_out() {
        let at = |paranoid, is_admin| {
            let conditions = Conditions {
                is_admin,
                paranoid,
                ..well()
            };
            let error = refusal("perf_event_open", Errno::ACCESS);
            explain_under(&conditions, Backend::Kprobe, "dup_fd", &error)
        };
        let error = at(Some(3), false);
        assert_eq!(
            error.to_string(),
            "dup_fd: perf_event_open: Permission denied (os error 13): kernel.perf_event_paranoid is 3"
        );
        let advice_of = advice(&error).unwrap();
        for way in [
            "sysctl kernel.perf_event_paranoid=2",
            "cap_sys_admin",
            "as root",
        ] {
            assert!(advice_of.contains(way), "{advice_of}");
        }
        for other in [at(Some(2), false), at(None, false)] {
            assert!(other.to_string().contains("seccomp"), "{other}");
            assert_eq!(advice(&other), None);
        }
        let admin = at(Some(3), true);
        assert!(admin.to_string().ends_with("(os error 13)"), "{admin}");
    }

    #[test]
    fn other_errors_are_one_line() {
        let text = explain(Backend::Fentry, "dup_fd", &ProgramError::NotLoaded).to_string();
        assert_eq!(text, "dup_fd: the program is not loaded");
        let error = anyhow!("invalid argument\n0: R1=ctx()\nprocessed 1 insns").context("loading");
        assert_eq!(one_line(&error), "loading: invalid argument");
        assert_eq!(one_line(&anyhow!("")), "");
    }
}
