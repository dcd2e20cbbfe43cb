//! System calls by number and name, for the native table and the 32-bit one.

use std::borrow::Cow;

use fdtrace_common::alarm::{CALL_COMPAT, CALL_IO_URING, CALL_NUMBER};

#[cfg(target_arch = "aarch64")]
use syscalls::{aarch64::Sysno as Native, arm::Sysno as Compat};
#[cfg(target_arch = "x86_64")]
use syscalls::{x86::Sysno as Compat, x86_64::Sysno as Native};

/// The name of a call as a record carries it (`StormKey::call`).
///
/// Work that `io_uring` does is no system call: it is called `io_uring`. Numbers newer than the
/// tables built in are `syscall_N`.
#[must_use]
pub fn name(code: u32) -> Cow<'static, str> {
    if code & CALL_IO_URING != 0 {
        return Cow::Borrowed("io_uring");
    }
    let number = code & CALL_NUMBER;
    let known = if code & CALL_COMPAT != 0 {
        Compat::new(number as usize).map(|call| call.name())
    } else {
        Native::new(number as usize).map(|call| call.name())
    };
    known.map_or_else(|| Cow::Owned(format!("syscall_{number}")), Cow::Borrowed)
}

/// The native number of `name`; `None` where this architecture has no such call.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let call = name.parse::<Native>().ok()?;
    u32::try_from(call.id()).ok()
}

/// The number of `name` in the 32-bit table, flagged as such; `None` where it has no such call.
#[must_use]
pub fn compat_number(name: &str) -> Option<u32> {
    let call = name.parse::<Compat>().ok()?;
    let number = u32::try_from(call.id()).ok()?;
    Some(number | CALL_COMPAT)
}

/// The numbers of these calls in both tables.
#[must_use]
pub fn numbers(names: &[&str]) -> Vec<u32> {
    let both = |name: &&str| [number(name), compat_number(name)];
    names.iter().flat_map(both).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for call in ["openat", "dup3", "fcntl", "inotify_init1"] {
            assert_eq!(name(number(call).unwrap()), call);
        }
        assert_eq!(number("no_such_call"), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn compat_calls_have_a_table_of_their_own() {
        assert_eq!(name(5), "fstat");
        assert_eq!(name(5 | CALL_COMPAT), "open");
        assert_eq!(compat_number("open"), Some(5 | CALL_COMPAT));
    }

    #[test]
    fn unknown_numbers_and_io_uring_have_names() {
        assert_eq!(name(99_999), "syscall_99999");
        assert_eq!(name(CALL_IO_URING), "io_uring");
    }
}
