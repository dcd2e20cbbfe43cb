//! A line in the journal for each limit that was changed: whoever looks into an incident later finds it there.

use std::os::unix::net::UnixDatagram;

use log::debug;

use crate::report::sanitize::one_line;

/// Where syslog and the journal take lines.
const SOCKET: &str = "/dev/log";
/// Facility daemon, severity notice (RFC 5424, 6.2.1).
const PRIORITY: u32 = 3 << 3 | 5;

/// Says it, if somebody is there to take it. Never waits.
pub(super) fn note(text: &str) {
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let line = format!(
            "<{PRIORITY}>fdtrace[{}]: {}",
            std::process::id(),
            one_line(text)
        );
        socket.send_to(line.as_bytes(), SOCKET)
    };
    if let Err(error) = send() {
        debug!("{SOCKET}: {error}");
    }
}
