//! Was stdout open when fdtrace was started?
//!
//! Rust's runtime opens /dev/null in place of a closed stdout before `main`, and everything written
//! would vanish without an error. So it is asked before the runtime starts.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// An error where fdtrace was started with stdout closed (`>&-`).
pub(super) fn check() -> Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        bail!("stdout is closed, nothing could be reported: redirect it to a file or a pipe");
    }
    Ok(())
}

extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(std::io::stdout()).is_err();
    CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Called by the C runtime before `main`.
#[expect(unsafe_code, reason = "a section that the C runtime calls into")]
// SAFETY: the section holds pointers to functions without arguments that matter; `look` only asks
// the kernel about one descriptor and stores a flag.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;
