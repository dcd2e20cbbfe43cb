//! What it means when the kernel refuses a program, in one line.

use std::path::Path;

use anyhow::anyhow;
use aya::programs::{KProbeError, ProgramError};
use log::debug;
use rustix::io::Errno;

use super::backend::Backend;

/// Says in one line what a refusal means.
pub(super) fn explain(backend: Backend, function: &str, error: &ProgramError) -> anyhow::Error {
    debug!("{function}: {error}");
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
    let meaning = match (backend, Errno::from_io_error(io_error)) {
        (Backend::Fentry, Some(Errno::PERM)) => {
            ": this kernel refuses programs that need a trampoline"
        }
        (Backend::Fentry, Some(Errno::OPNOTSUPP)) => ": no trampolines on this kernel",
        (Backend::Kprobe, _) if !has_kprobes() => ": this kernel has no kprobes (CONFIG_KPROBES)",
        _ => "",
    };
    anyhow!("{function}: {step}: {io_error}{meaning}")
}

/// Is there a kprobe event source? Only asked to explain a failure.
fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
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

    #[test]
    fn a_refusal_says_where_and_what_it_means() {
        let error = refusal("bpf_raw_tracepoint_open", Errno::OPNOTSUPP);
        let text = explain(Backend::Fentry, "alloc_fd", &error).to_string();
        assert_eq!(
            text,
            "alloc_fd: bpf_raw_tracepoint_open: Operation not supported (os error 95): \
             no trampolines on this kernel"
        );
        let error = refusal("bpf_raw_tracepoint_open", Errno::PERM);
        let text = explain(Backend::Fentry, "alloc_fd", &error).to_string();
        assert!(
            text.ends_with("refuses programs that need a trampoline"),
            "{text}"
        );
        let text = explain(Backend::Census, "sys_exit", &error).to_string();
        assert!(text.ends_with("(os error 1)"), "{text}");
    }

    #[test]
    fn kprobes_that_the_kernel_does_not_have_are_named() {
        let error = KProbeError::FileError {
            filename: "/sys/bus/event_source/devices/kprobe/type".into(),
            io_error: io::Error::from(Errno::NOENT),
        };
        let text = explain(Backend::Kprobe, "alloc_fd", &error.into()).to_string();
        let meaning = "this kernel has no kprobes (CONFIG_KPROBES)";
        assert!(text.starts_with("alloc_fd: attach: No such file"), "{text}");
        assert_eq!(text.contains(meaning), !has_kprobes(), "{text}");
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
