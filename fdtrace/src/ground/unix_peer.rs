//! What the other end of a unix socket is.

use fdtrace_common::peer::{NO_PEER, PEER_CLOSED, PEER_WAITS};

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixPeer {
    /// The socket of this inode number.
    Socket(u64),
    /// It has not been accepted yet.
    Waits,
    /// It has been closed.
    Closed,
}

impl UnixPeer {
    /// By the number that a record has for it; `None`: there is none.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        match number {
            NO_PEER => None,
            PEER_CLOSED => Some(Self::Closed),
            PEER_WAITS => Some(Self::Waits),
            inode => Some(Self::Socket(inode)),
        }
    }

    /// The number that a record has for it.
    #[must_use]
    pub fn number(peer: Option<Self>) -> u64 {
        match peer {
            None => NO_PEER,
            Some(Self::Closed) => PEER_CLOSED,
            Some(Self::Waits) => PEER_WAITS,
            Some(Self::Socket(inode)) => inode,
        }
    }
}
