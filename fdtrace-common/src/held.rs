//! What a table holds at the moment when it has run out, told slot by slot before the alarm itself.

use crate::change::OpenRecord;

/// Bytes kept of a unix socket's path.
pub const UNIX_KEPT: usize = 64;
/// `flags` of a [`HeldRecord`]'s slot: every open slot is told; without it, only sockets are, for whoever has
/// followed the others.
pub const WHOLE: u32 = 32;
/// Slots of a table that are told.
pub const HELD_MAX: u32 = 4_096;

/// `SHUTDOWN_MASK` of `include/net/sock.h`: nothing goes either way any more (`unix_release_sock` in
/// `net/unix/af_unix.c` sets it at the other end).
pub const SHUTDOWN_MASK: u8 = 3;

/// One open slot, and where its socket leads to.
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeldRecord {
    /// The slot, with the kind `RECORD_HELD`. Its `tgid` and `tid` are those of the thread that ran out;
    /// its `time_ns` is when.
    pub slot: OpenRecord,
    /// The other end's IPv4 or IPv6 address, network byte order; zeroes where there is none.
    pub remote: [u8; 16],
    /// The other end's port.
    pub remote_port: u16,
    /// This end's port.
    pub local_port: u16,
    /// Bytes of `unix` in use.
    pub unix_length: u16,
    /// The connection's state as in `include/net/tcp_states.h`; 0 where it is not known.
    pub state: u8,
    /// `sk_shutdown`: [`SHUTDOWN_MASK`] of a unix socket whose other end has been closed.
    pub shutdown: u8,
    /// The path of a unix socket, or of the one that it is connected to, cut where it is longer; an
    /// abstract name starts with a NUL. Hostile text.
    pub unix: [u8; UNIX_KEPT],
}

const _: () = assert!(size_of::<HeldRecord>() == 208);
