//! The ring buffer, as tokio waits for it.

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// Kernel records, in the order in which they were reserved.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Registers the ring with the current runtime.
    #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
    pub fn new(ring: RingBuf<MapData>) -> Result<Self> {
        // SAFETY: the RingBuf owns its map's descriptor and neither closes nor swaps it while it is
        // registered here.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self {
            ring: ring.context("cannot wait for the ring buffer")?,
        })
    }

    /// Waits for a wake-up. What there is then has to be taken: the next one may come when it has been.
    pub async fn wait(&mut self) -> Result<()> {
        let guard = self.ring.readable_mut().await;
        guard.context("waiting for the ring buffer")?.clear_ready();
        Ok(())
    }

    /// Hands over everything there is, without waiting.
    pub fn drain(&mut self, handle: impl FnMut(&[u8])) {
        drain(self.ring.get_mut(), handle);
    }
}

/// Hands over everything there is.
pub fn drain(ring: &mut RingBuf<MapData>, mut handle: impl FnMut(&[u8])) {
    // aya looks for new records only when it has caught up: it must be asked until it says none.
    while let Some(record) = ring.next() {
        handle(&record);
    }
}
