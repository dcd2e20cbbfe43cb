//! The kernel programs' log lines, for -vv.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Prints them from here on, beside everything else.
#[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
pub(super) fn start(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init(ebpf)?;
    // SAFETY: the logger owns its map's descriptor and neither closes nor swaps it.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger.context("waiting for log lines")?;
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}
