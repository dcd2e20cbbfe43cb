//! Connections of a table: clients of a server, and connections that the other end has closed. Pure.

use crate::{
    engine::table::{Entry, Table},
    ground::kind::Kind,
};

/// What is known of the stream sockets of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// Stream sockets in the table, TCP and unix.
    sockets: u32,
    /// Those of them whose state is known.
    known: u32,
    clients: u32,
    close_wait: u32,
}

impl Connections {
    /// The table's.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let mut connections = Self::default();
        for entry in table.entries.iter().filter(|entry| is_stream(entry)) {
            connections.sockets += 1;
            connections.known += u32::from(entry.connection.is_some());
            connections.clients += u32::from(entry.is_client());
            connections.close_wait += u32::from(entry.is_close_wait());
        }
        connections
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

    /// Is this one a connected client, or taken to be one: most of those whose state is known are, and its own is not
    /// known yet?
    #[must_use]
    pub fn is_client(&self, entry: &Entry) -> bool {
        let is_unknown = entry.connection.is_none() && is_stream(entry);
        entry.is_client() || is_unknown && self.clients * 2 > self.known
    }

    fn of_all(&self, count: u32) -> u32 {
        let all = u64::from(count) * u64::from(self.sockets) / u64::from(self.known.max(1));
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}

fn is_stream(entry: &Entry) -> bool {
    matches!(entry.open.kind, Kind::Tcp | Kind::Unix)
}
