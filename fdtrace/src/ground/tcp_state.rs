//! States of connections, as the kernel numbers them.

use std::fmt;

/// A state of `include/net/tcp_states.h`; unix sockets use the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpState(u8);

const NAMES: [&str; 12] = [
    "established",
    "syn-sent",
    "syn-recv",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "close",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
    "new-syn-recv",
];

/// The same as the kernel spells them.
const IN_CAPITALS: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

impl TcpState {
    /// Their names, in the order of their numbers, from 1.
    pub const NAMES: [&str; 12] = NAMES;

    /// Connected, both ways.
    pub const ESTABLISHED: Self = Self(1);
    /// The other end has closed its side; this one has not.
    pub const CLOSE_WAIT: Self = Self(8);
    /// Waits for connections.
    pub const LISTEN: Self = Self(10);

    /// The state of that number; `None` for one that no kernel has, and for 0, which stands for unknown.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        let index = number.checked_sub(1)?;
        let is_known = (index as usize) < NAMES.len();
        is_known.then_some(Self(u8::try_from(number).ok()?))
    }

    /// As ss(8) and `fdtrace ls` spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0) - 1]
    }

    /// The state of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let index = NAMES.iter().position(|known| *known == name)?;
        Self::new(u32::try_from(index).ok()? + 1)
    }

    /// As the kernel, netstat(8) and people write it: `CLOSE_WAIT`.
    #[must_use]
    pub fn in_capitals(self) -> &'static str {
        IN_CAPITALS[usize::from(self.0) - 1]
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, output: &mut fmt::Formatter<'_>) -> fmt::Result {
        output.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_numbers() {
        let name = |number| TcpState::new(number).map(TcpState::name);
        assert_eq!(name(1), Some("established"));
        assert_eq!(name(8), Some("close-wait"));
        assert_eq!(name(10), Some("listen"));
        assert_eq!(name(12), Some("new-syn-recv"));
        for name in TcpState::NAMES {
            assert_eq!(TcpState::named(name).map(TcpState::name), Some(name));
        }
        assert_eq!(TcpState::named("close_wait"), None);
        for (name, in_capitals) in NAMES.iter().zip(IN_CAPITALS) {
            assert_eq!(in_capitals.to_lowercase().replace('_', "-"), *name);
        }
        assert_eq!([name(0), name(13), name(257), name(u32::MAX)], [None; 4]);
    }
}
