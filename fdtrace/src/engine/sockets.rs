//! Where sockets lead to, as far as somebody has looked: by inode, which no two sockets share.

use fdtrace_common::change::OpenRecord;

use super::table::Socket;
use crate::ground::{newest::Newest, tcp_state::TcpState, unix_peer::UnixPeer};

/// The ends that are known.
#[derive(Debug, Default)]
pub struct Sockets {
    by_inode: Newest<u64, Vec<u8>>,
    states: Newest<u64, TcpState>,
    /// Other ends of unix sockets.
    peers: Newest<u64, Option<UnixPeer>>,
}

impl Sockets {
    /// Somebody has looked. The text is hostile.
    pub fn take(&mut self, ends: impl IntoIterator<Item = (u64, Vec<u8>)>) {
        for (inode, end) in ends {
            self.by_inode.insert(inode, end);
        }
    }

    /// Somebody has looked at the states of TCP sockets.
    pub fn take_states(&mut self, states: impl IntoIterator<Item = (u64, TcpState)>) {
        for (inode, state) in states {
            self.states.insert(inode, state);
        }
    }

    /// The kernel has told what is in a slot.
    pub fn take_peer(&mut self, record: &OpenRecord) {
        let peer = UnixPeer::new(record.replaced);
        if self.peers.get(&record.inode).copied().flatten() != peer {
            self.peers.insert(record.inode, peer);
        }
    }

    /// The same by number, of a recording; numbers that no state has are left out.
    pub fn take_numbers(&mut self, states: &[(u64, u8)]) {
        let known = states
            .iter()
            .filter_map(|(inode, number)| Some((*inode, TcpState::new(u32::from(*number))?)));
        self.take_states(known);
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, inode: u64) -> Socket<'_> {
        Socket {
            end: self.by_inode.get(&inode).map(Vec::as_slice),
            state: self.states.get(&inode).copied(),
            peer: self.peers.get(&inode).copied().flatten(),
        }
    }
}
