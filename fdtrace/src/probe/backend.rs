//! The ways to watch, and what each turned out to see.

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    plan::{Hook, Role},
    refusal::{advice, one_line},
};

/// A way to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Programs at the exit of kernel functions, through trampolines.
    Fentry,
    /// The same on kretprobes.
    Kprobe,
    /// The end of every system call, and the kernel's iterators.
    Census,
}

impl Backend {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Census];

    /// Its name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Census => "census",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A hook that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedHook {
    /// The kernel function or tracepoint.
    pub function: String,
    /// How: the backend's own way, or by a kprobe where it would miss calls.
    pub how: Backend,
    /// What is seen there.
    pub sees: &'static str,
    /// Of a function that may have a branch which only failing calls take: that branch, or why the function is watched
    /// at its end.
    pub place: Option<String>,
}

/// What one backend turned out to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Hooks that are attached.
    pub hooks: Vec<AttachedHook>,
    /// What cannot be seen, and why.
    pub misses: Vec<String>,
    /// False leads whose feature this kernel has not built in.
    pub absent: Vec<String>,
    /// What to do about what is missed, where something can be done.
    pub advice: Vec<String>,
}

impl Coverage {
    /// Takes down what to do about a hook that is missed, once.
    pub(super) fn advise(&mut self, advice: Option<&str>) {
        if let Some(advice) = advice
            && !self.advice.iter().any(|known| known == advice)
        {
            self.advice.push(advice.to_owned());
        }
    }

    /// Takes down that the kernel has none of a hook's functions; an error if there is no backend
    /// without it.
    pub(super) fn lacks(&mut self, hook: &Hook) -> Result<()> {
        let reason = format!("the kernel has no function {}", hook.functions());
        let (list, more) = match hook.role {
            Role::Required => bail!(reason),
            Role::Exhaustion | Role::Remedy => (&mut self.misses, ""),
            Role::FalseLead => (&mut self.absent, " built in"),
            Role::OlderKernels => return Ok(()),
        };
        list.push(format!("{}: {reason}{more}", hook.sees));
        Ok(())
    }
}

/// A backend that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The backend.
    pub backend: Backend,
    /// In one line.
    pub reason: String,
    /// What to do about it, where something can be done.
    pub advice: Option<String>,
}

impl Rejected {
    /// A backend that could not be attached, or has not proved itself.
    pub(super) fn new(backend: Backend, error: &anyhow::Error) -> Self {
        Self {
            backend,
            reason: one_line(error),
            advice: advice(error).map(str::to_owned),
        }
    }
}

/// What to do about backends that are not used and about what the one that runs misses, each said once.
pub fn all_advice<'a>(
    rejected: &'a [Rejected],
    coverage: Option<&'a Coverage>,
) -> impl Iterator<Item = &'a str> {
    let of_rejected = rejected
        .iter()
        .filter_map(|rejected| rejected.advice.as_ref());
    let of_coverage = coverage.into_iter().flat_map(|coverage| &coverage.advice);
    let mut all: Vec<&str> = of_rejected.chain(of_coverage).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::plan::HOOKS;

    #[test]
    fn the_lack_of_a_function_is_told_to_whom_it_concerns() {
        let mut coverage = Coverage::default();
        let mut lacks = |function: &str| {
            let mut hooks = HOOKS.iter();
            let hook =
                hooks.find(|hook| hook.functions().split(" or ").any(|name| name == function));
            coverage.lacks(hook.expect(function))
        };
        let error = lacks("alloc_fd").unwrap_err().to_string();
        assert_eq!(error, "the kernel has no function __alloc_fd or alloc_fd");
        lacks("ksys_dup3").unwrap();
        lacks("fuse_file_open").unwrap();
        assert_eq!(
            coverage.misses,
            ["dup2 and dup3 above the limit (EBADF): the kernel has no function ksys_dup3"]
        );
        assert_eq!(
            coverage.absent,
            [
                "EMFILE of a FUSE server that opens: the kernel has no function fuse_file_open \
                 built in"
            ]
        );
    }
}
