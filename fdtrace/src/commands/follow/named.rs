//! The processes given with `--pid`: each end is told, and with the last one there is nothing left to follow.

use std::{future::pending, os::fd::OwnedFd, sync::Arc};

use anyhow::{Context, Result};
use aya::Ebpf;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinSet,
};

use crate::{
    commands::troubles::Troubles,
    probe::{attach::Session, scope},
};

/// Those that have not ended yet.
pub(super) struct Named {
    /// Those with a pidfd: whoever gets the number of one later is another process.
    awaited: JoinSet<u32>,
    /// Where there is no pidfd: the kernel programs take a process out of the filter when it ends.
    others: Vec<u32>,
    /// None was given, and nothing ends by itself.
    is_anybody: bool,
    /// Children are waited for as well.
    follows_children: bool,
}

impl Named {
    /// Within a runtime.
    pub(super) fn of(session: &Session) -> Result<Self> {
        let mut named = Self {
            awaited: JoinSet::new(),
            others: Vec::new(),
            is_anybody: session.named.is_empty(),
            follows_children: session.follows_children,
        };
        for process in &session.named {
            match &process.pidfd {
                Some(pidfd) => named.wait_for(process.pid, Arc::clone(pidfd))?,
                None => named.others.push(process.pid),
            }
        }
        Ok(named)
    }

    #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
    fn wait_for(&mut self, pid: u32, pidfd: Arc<OwnedFd>) -> Result<()> {
        // SAFETY: the Arc keeps this descriptor open, and it stays the same one, while it is registered here.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        let pidfd = pidfd.context("waiting for a process to end")?;
        self.awaited.spawn(async move {
            // Readable when the last thread has ended (pidfd_open(2)); an error is the end of the runtime.
            let _ = pidfd.readable().await;
            pid
        });
        Ok(())
    }

    /// The next one that has ended; never returns where none is waited for.
    pub(super) async fn ended(&mut self) -> u32 {
        match self.awaited.join_next().await {
            Some(Ok(pid)) => pid,
            _ => pending().await,
        }
    }

    /// Those without a pidfd that have ended since the last look.
    pub(super) fn look(&mut self, ebpf: &mut Ebpf) -> Vec<u32> {
        let (others, ended) = std::mem::take(&mut self.others)
            .into_iter()
            .partition(|pid| scope::has(ebpf, *pid).unwrap_or(true));
        self.others = others;
        ended
    }

    /// Have all of them ended, and their children where they are followed?
    pub(super) fn are_gone(&self, ebpf: &mut Ebpf, troubles: &mut Troubles) -> bool {
        if self.is_anybody || !self.awaited.is_empty() || !self.others.is_empty() {
            return false;
        }
        let what = "it is not known whether children of the processes asked for are left";
        !self.follows_children || troubles.note(what, scope::is_empty(ebpf)) == Some(true)
    }
}
