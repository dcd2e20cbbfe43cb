//! Connections that a proxy has made for its clients. Pure.
//!
//! A client of a proxy takes two fds: its own connection and the one to the server behind. Both are there for as long
//! as the client waits, and both are load.

use crate::{
    engine::table::{Entry, Table},
    ground::tcp_state::TcpState,
};

/// A connection is made for a client that came at most so long before or after: it asks at once, and where tables
/// are only looked at now and then, both may be seen in either order.
const APART_NS: u64 = 5_000_000_000;

/// When the connections were opened that the process has made itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// One for each of as many clients, nanoseconds since boot, ascending.
    pub(super) for_clients: Vec<u64>,
    /// All others.
    pub(super) others: Vec<u64>,
}

impl Made {
    /// Those of a table among the entries that are wanted.
    pub(super) fn of(table: &Table, is_wanted: impl Fn(&Entry) -> bool) -> Self {
        let times = |is_kind: &dyn Fn(&Entry) -> bool| {
            let entries = table.entries.iter();
            let entries = entries.filter(|entry| is_wanted(entry) && is_kind(entry));
            let mut times: Vec<_> = entries.map(|entry| entry.open.since_ns).collect();
            times.sort_unstable();
            times
        };
        Self::pair(&times(&Entry::is_client), times(&is_made))
    }

    /// Each connection with the earliest client that is near enough and has none.
    fn pair(clients: &[u64], made: Vec<u64>) -> Self {
        let mut clients = clients.iter().copied().peekable();
        let mut pairs = Self::default();
        for time_ns in made {
            while clients
                .next_if(|client_ns| client_ns.saturating_add(APART_NS) < time_ns)
                .is_some()
            {}
            let near = clients.next_if(|client_ns| *client_ns <= time_ns.saturating_add(APART_NS));
            match near {
                Some(_) => pairs.for_clients.push(time_ns),
                None => pairs.others.push(time_ns),
            }
        }
        pairs
    }
}

/// Is it a connection that the process has made, and that stands?
pub(super) fn is_made(entry: &Entry) -> bool {
    let connection = entry.connection;
    connection.is_some_and(|connection| {
        !connection.is_client && connection.state == TcpState::ESTABLISHED
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pairs(clients: &[u64], made: &[u64]) -> (usize, Vec<u64>) {
        let clients: Vec<_> = clients.iter().map(|time| time * SECOND).collect();
        let made = made.iter().map(|time| time * SECOND).collect();
        let made = Made::pair(&clients, made);
        let others = made.others.iter().map(|time| time / SECOND);
        (made.for_clients.len(), others.collect())
    }

    #[test]
    fn one_for_each_client_that_came_at_about_the_same_time() {
        assert_eq!(pairs(&[10, 11, 12], &[10, 11, 13]), (3, vec![]));
        assert_eq!(pairs(&[10], &[10, 11, 12]), (1, vec![11, 12]), "one each");
        assert_eq!(pairs(&[10, 20], &[15, 26]), (1, vec![26]), "too late");
        assert_eq!(pairs(&[20], &[14, 15]), (1, vec![14]), "too early");
        assert_eq!(pairs(&[], &[1]), (0, vec![1]));
    }
}
