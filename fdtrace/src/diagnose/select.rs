//! Does a program use select(2)? An `fd_set` has room for the fds below 1024: with more, `FD_SET` aborts the program
//! (`__fdelt_chk` of a fortified build), or writes behind the set. Pure.

use fdtrace_common::select::FD_SETSIZE;
use serde::{Deserialize, Serialize};

/// The highest soft limit that such a program survives: its fds are below that.
pub const LIMIT: u64 = FD_SETSIZE as u64;

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The kernel has seen the process call it.
    Called {
        /// The largest number of fds in a call (`nfds`): one more than the highest fd that was waited for, or
        /// what the program always says.
        most: u32,
    },
    /// Its program, or a library that it has mapped, imports it: a hint.
    Imported {
        /// That file, untrusted.
        by: String,
    },
    /// It has not been seen to call it, and nothing that it has mapped imports it.
    No,
}

impl Select {
    /// As JSON has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Called { .. } => "called",
            Self::Imported { .. } => "imported",
            Self::No => "no",
        }
    }

    /// See [`Select::Called`].
    #[must_use]
    pub fn most(&self) -> Option<u32> {
        match self {
            Self::Called { most } => Some(*most),
            _ => None,
        }
    }

    /// See [`Select::Imported`].
    #[must_use]
    pub fn imported_by(&self) -> Option<&str> {
        match self {
            Self::Imported { by } => Some(by),
            _ => None,
        }
    }

    /// Does it forbid a soft limit of so many, where it is `soft` now? One that lives above already is no argument.
    #[must_use]
    pub fn forbids(&self, soft: u64, wanted: u64) -> bool {
        matches!(self, Self::Called { .. }) && soft <= LIMIT && wanted > LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_forbid_and_only_to_pass_what_a_set_holds() {
        let called = Select::Called { most: 7 };
        for (soft, wanted, forbids) in [
            (1_024, 4_096, true),
            (256, 1_025, true),
            (256, 1_024, false),
            (20_000, 65_536, false),
        ] {
            assert_eq!(called.forbids(soft, wanted), forbids, "{soft} {wanted}");
        }
        let imported = Select::Imported { by: "x".to_owned() };
        assert!(!imported.forbids(1_024, 4_096));
        assert!(!Select::No.forbids(1_024, 4_096));
    }
}
