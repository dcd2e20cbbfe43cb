//! fdtrace calls select(2), and must see it.

use anyhow::{Result, bail};
use aya::Ebpf;

use crate::probe::selects;

/// What the call asks about: fd 0, whether it is open or not.
const COUNT: i32 = 1;

/// Calls it once. The error says that the hook has not seen it.
#[expect(unsafe_code, reason = "the call itself")]
pub(in crate::probe) fn run(ebpf: &Ebpf) -> Result<()> {
    let mut none = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let no_set = std::ptr::null_mut();
    // SAFETY: no sets, and a time of its own: it returns at once.
    unsafe { libc::select(COUNT, no_set, no_set, no_set, &raw mut none) };
    let cell = selects::of(ebpf, std::process::id())?;
    if cell.is_none_or(|cell| cell.most < COUNT.unsigned_abs()) {
        bail!("its hook is attached and does not see calls");
    }
    Ok(())
}
