//! Where sockets lead to, as far as somebody has looked: by inode, which no two sockets share.

use super::{
    held::{Connection, Ends, States, is_client},
    tables::slot::Slot,
};
use crate::ground::{kind::Kind, newest::Newest, tcp_state::TcpState};

/// The ends that are known.
#[derive(Debug, Default)]
pub struct Sockets {
    by_inode: Newest<u64, Vec<u8>>,
    states: Newest<u64, TcpState>,
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

    /// The same by number, of a recording; numbers that no state has are left out.
    pub fn take_numbers(&mut self, states: &[(u64, u8)]) {
        let known = states
            .iter()
            .filter_map(|(inode, number)| Some((*inode, TcpState::new(u32::from(*number))?)));
        self.take_states(known);
    }

    /// The state of one when somebody last looked.
    #[must_use]
    pub fn state(&self, inode: u64) -> Option<TcpState> {
        self.states.get(&inode).copied()
    }

    /// What is known of the connections among these slots.
    #[must_use]
    pub fn states(&self, slots: impl Iterator<Item = (u32, Slot)>) -> States {
        let sockets = slots.filter(|(_, slot)| slot.kind == Kind::Tcp);
        let known = sockets.filter_map(|(fd, slot)| {
            let connection = Connection {
                state: self.state(slot.inode)?,
                is_client: self.end(slot.inode).is_some_and(is_client),
            };
            Some((fd, connection))
        });
        known.collect()
    }

    /// Where one leads to.
    #[must_use]
    pub fn end(&self, inode: u64) -> Option<&[u8]> {
        self.by_inode.get(&inode).map(Vec::as_slice)
    }

    /// Where those among these slots lead to.
    #[must_use]
    pub fn ends(&self, slots: impl Iterator<Item = (u32, Slot)>) -> Ends {
        let sockets = slots.filter(|(_, slot)| slot.kind.has_end());
        let known = sockets.filter_map(|(fd, slot)| Some((fd, self.end(slot.inode)?.to_vec())));
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_belong_to_sockets_of_that_inode() {
        let mut sockets = Sockets::default();
        sockets.take([(7, b"10.0.0.1:80".to_vec())]);
        let slot = |kind, inode| Slot {
            inode,
            kind,
            ..Slot::default()
        };
        let slots = [
            (3, slot(Kind::Tcp, 7)),
            (4, slot(Kind::File, 7)),
            (5, slot(Kind::Tcp, 8)),
        ];
        let ends = sockets.ends(slots.into_iter());
        assert_eq!(ends.len(), 1);
        assert_eq!(ends.get(&3).map(Vec::as_slice), Some(&b"10.0.0.1:80"[..]));
    }

    #[test]
    fn clients_are_those_that_came_in_by_a_port() {
        let mut sockets = Sockets::default();
        sockets.take([
            (7, b"clients of *:80".to_vec()),
            (8, b"10.0.0.1:80".to_vec()),
        ]);
        let states = [7, 8, 9].map(|inode| (inode, TcpState::ESTABLISHED));
        sockets.take_states(states);
        let slots = (3..).zip([7, 8, 9, 10]).map(|(fd, inode)| {
            let slot = Slot {
                inode,
                kind: Kind::Tcp,
                ..Slot::default()
            };
            (fd, slot)
        });
        let states = sockets.states(slots);
        let of = |fd| states.get(&fd).map(|connection| connection.is_client);
        assert_eq!(
            [of(3), of(4), of(5), of(6)],
            [Some(true), Some(false), Some(false), None]
        );
    }
}
