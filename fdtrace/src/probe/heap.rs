//! Memory that was needed to start, given back.

/// Returns what is free to the kernel.
///
/// The kernel's types are read in pieces of megabytes, twice. glibc takes a free piece of that size for a sign
/// that more of them will be wanted, and keeps up to twice as much for good (`M_TRIM_THRESHOLD` in mallopt(3)):
/// 14 MB, a third of all that fdtrace had.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a call into the C library")]
pub(super) fn give_back() {
    // SAFETY: takes no pointer, and may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call, and keep less.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
