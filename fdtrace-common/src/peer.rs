//! The other end of a unix socket, as [`crate::change::OpenRecord::replaced`] tells it in one number: the inode number
//! of the socket there, or one of these.

/// There is none, or it is no unix socket.
pub const NO_PEER: u64 = 0;
/// The other end has been closed.
pub const PEER_CLOSED: u64 = u64::MAX;
/// It has connected, and the other end has not accepted it yet.
pub const PEER_WAITS: u64 = u64::MAX - 1;
