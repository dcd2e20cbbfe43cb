//! Connections of a table: clients of a server, and connections that the other end has closed. Pure.

use crate::{
    ground::{kind::Kind, tcp_state::TcpState},
    model::{held::States, tables::table::Table},
};

/// What is known of the stream sockets of a table.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    states: States,
    /// Stream sockets in the table, TCP and unix.
    sockets: u32,
    /// Those of them whose state is known.
    known: u32,
    clients: u32,
    close_wait: u32,
}

impl Connections {
    /// The table's, of states by fd.
    #[must_use]
    pub fn of(table: &Table, states: States) -> Self {
        let is_stream = |kind| matches!(kind, Kind::Tcp | Kind::Unix);
        let slots = table.slots().filter(|(_, slot)| is_stream(slot.kind));
        let mut connections = Self::default();
        for (fd, _) in slots {
            connections.sockets += 1;
            let Some(connection) = states.get(&fd) else {
                continue;
            };
            connections.known += 1;
            let is = |state| connection.state == state;
            connections.clients += u32::from(connection.is_client && is(TcpState::ESTABLISHED));
            connections.close_wait += u32::from(is(TcpState::CLOSE_WAIT));
        }
        Self {
            states,
            ..connections
        }
    }

    /// Connected clients of a server that the process runs. Where states are known of some sockets only, the
    /// others are taken to be alike.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.of_all(self.clients)
    }

    /// Connections that the other end has closed, and this one has not; counted likewise.
    #[must_use]
    pub fn close_wait(&self) -> u32 {
        self.of_all(self.close_wait)
    }

    /// Is it a connected client?
    #[must_use]
    pub fn is_client(&self, fd: u32) -> bool {
        let connection = self.states.get(&fd);
        connection.is_some_and(|connection| {
            connection.is_client && connection.state == TcpState::ESTABLISHED
        })
    }

    /// Has the other end closed it?
    #[must_use]
    pub fn is_close_wait(&self, fd: u32) -> bool {
        let connection = self.states.get(&fd);
        connection.is_some_and(|connection| connection.state == TcpState::CLOSE_WAIT)
    }

    /// The state that all of these have, as far as it is known.
    #[must_use]
    pub fn common_state(&self, fds: impl Iterator<Item = u32>) -> Option<TcpState> {
        let mut known = fds.filter_map(|fd| self.states.get(&fd));
        let first = known.next()?.state;
        known
            .all(|connection| connection.state == first)
            .then_some(first)
    }

    fn of_all(&self, count: u32) -> u32 {
        let all = u64::from(count) * u64::from(self.sockets) / u64::from(self.known.max(1));
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}
