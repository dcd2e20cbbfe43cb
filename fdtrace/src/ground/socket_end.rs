//! Where internet sockets lead to, in words.

use std::net::SocketAddr;

use rustc_hash::FxHashSet;

/// What an internet socket that has come in by a port leads to begins with this.
const CLIENTS: &[u8] = b"clients of ";

/// Does an internet socket come in by a port that somebody listens on? By what [`internet_end`] has made of it.
#[must_use]
pub(crate) fn is_client(end: &[u8]) -> bool {
    end.starts_with(CLIENTS)
}

/// Where an internet socket leads to, by its port on this side, the other end and the ports that its table
/// listens on.
#[must_use]
pub(crate) fn internet_end(
    port: u16,
    remote: Option<SocketAddr>,
    listening: &FxHashSet<u16>,
) -> Option<Vec<u8>> {
    let Some(remote) = remote else {
        return (port != 0).then(|| format!("*:{port}").into_bytes());
    };
    if listening.contains(&port) {
        return Some([CLIENTS, format!("*:{port}").as_bytes()].concat());
    }
    Some(remote.to_string().into_bytes())
}
