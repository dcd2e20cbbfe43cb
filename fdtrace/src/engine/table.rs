//! Tables as plain data: what is open, since when, where it leads to, who has opened it.

use rustc_hash::FxHashMap;

use super::opener::Sequence;
use crate::ground::{kind::Kind, socket_end::is_client, tcp_state::TcpState, unix_peer::UnixPeer};

/// A table in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The address of its `files_struct`.
    pub files: u64,
    /// Which of the tables at that address it is: the allocator hands memory out again at once.
    pub generation: u64,
    /// The process that uses it, or one of those that share it.
    pub tgid: u32,
    /// Fds that are open.
    pub open: u32,
    /// Some thread uses it.
    pub is_used: bool,
}

/// A thread, and the table that it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// The table.
    pub files: u64,
    /// Start of its process, nanoseconds since boot; 0: not known.
    pub started_ns: u64,
    /// Its name. Untrusted text.
    pub comm: [u8; 16],
}

/// An fd, and how long it has been open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFd {
    /// The number.
    pub fd: u32,
    /// Address of the `struct file`: what is in the slot is the same for as long as this is.
    pub file: u64,
    /// Inode number.
    pub inode: u64,
    /// When it came here, nanoseconds since boot; 0: not known, it was there before anybody looked.
    pub since_ns: u64,
    /// What it is; [`Kind::Unknown`] where nobody can tell.
    pub kind: Kind,
    /// It came with the table: from fork, unshare or exec.
    pub is_inherited: bool,
}

/// A stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its state. Of a unix socket whose other end has been closed, [`TcpState::CLOSE_WAIT`].
    pub state: TcpState,
    /// It was accepted from a socket that the table, or its network namespace, listens on.
    pub is_client: bool,
}

/// What is known of a socket, wherever it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket<'a> {
    /// Where it leads to. Untrusted text.
    pub end: Option<&'a [u8]>,
    /// The state of its connection.
    pub state: Option<TcpState>,
    /// Of a unix socket, its other end.
    pub peer: Option<UnixPeer>,
}

impl Socket<'_> {
    /// Of a socket of this kind, what was looked up of its connection.
    #[must_use]
    pub fn connection(&self, kind: Kind) -> Option<Connection> {
        let state = self.state.filter(|_| kind == Kind::Tcp)?;
        Some(Connection {
            state,
            is_client: self.end.is_some_and(is_client),
        })
    }
}

/// An fd of a table, and what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What is open.
    pub open: OpenFd,
    /// Where it leads to: see [`Table::target`].
    pub target: Target,
    /// Of a stream socket, what is known of its connection.
    pub connection: Option<Connection>,
    /// Which stack has opened it.
    pub opener: Option<Sequence>,
}

impl Entry {
    /// Is it a connected client of a server that the process runs?
    #[must_use]
    pub fn is_client(&self) -> bool {
        let connection = self.connection;
        connection.is_some_and(|connection| {
            connection.is_client && connection.state == TcpState::ESTABLISHED
        })
    }

    /// Is it a connection that the other end has closed?
    #[must_use]
    pub fn is_close_wait(&self) -> bool {
        let connection = self.connection;
        connection.is_some_and(|connection| connection.state == TcpState::CLOSE_WAIT)
    }
}

/// What an fd leads to, by its place among the targets of its table. The default is nothing beyond its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target(u32);

/// One table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Its open fds, in order.
    pub entries: Vec<Entry>,
    /// When it was made, nanoseconds since boot; 0: not known, it was there before anybody looked.
    pub made_ns: u64,
    /// Since when it has been followed, nanoseconds since boot; 0: it was not, and only this moment of it is known.
    pub followed_ns: u64,
    /// Files that have come into it as long as it was followed, inherited ones and those from before included.
    pub gained: u64,
    /// Those of them that came with the table when it was made.
    pub copied: u64,
    /// How full it has been, oldest first, as far as it was worth keeping.
    pub past: Vec<Stretch>,
    targets: Vec<Box<[u8]>>,
}

impl Table {
    /// How many fds are open.
    #[must_use]
    pub fn open(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Files that have left it as long as it was followed.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.gained.saturating_sub(u64::from(self.open()))
    }

    /// What an fd leads to: a name, or where a socket leads to. Untrusted text. `None`: there is nothing to tell beyond
    /// the kind.
    #[must_use]
    pub fn target(&self, target: Target) -> Option<&[u8]> {
        let index = target.0.checked_sub(1)?;
        self.targets.get(index as usize).map(|text| &**text)
    }
}

/// What a table held in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning, nanoseconds since boot.
    pub from_ns: u64,
    /// Its end.
    pub until_ns: u64,
    /// The least number of fds open in it.
    pub low: u32,
    /// The greatest.
    pub high: u32,
    /// Fds open at its end.
    pub open: u32,
    /// Fds that had been opened up to its end since the table was made or first seen.
    pub opened: u64,
    /// Fds that had been closed up to its end.
    pub closed: u64,
}

/// A table whose use somebody has seen: a call that has found it full, or a look at its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The table.
    pub files: u64,
    /// The thread that was seen to use it.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// When that was started, nanoseconds since boot; 0: not known.
    pub started_ns: u64,
    /// Files open in the table at that moment; `None`: nobody has counted, and what is known now will do.
    pub open: Option<u32>,
}

impl Sighting {
    /// How far a table of so many fds is from the one that was counted.
    #[must_use]
    pub fn distance(&self, open: u32) -> u32 {
        self.open.map_or(0, |counted| counted.abs_diff(open))
    }
}

/// Collects the entries of a table, in the order of their numbers; each target is kept once.
#[derive(Debug, Default)]
pub struct TableBuilder<'a> {
    entries: Vec<Entry>,
    targets: Vec<Box<[u8]>>,
    known: FxHashMap<&'a [u8], Target>,
}

impl<'a> TableBuilder<'a> {
    /// Room for so many.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self {
            entries: Vec::with_capacity(entries),
            ..Self::default()
        }
    }

    /// The next entry, and what it leads to.
    pub fn push(&mut self, entry: Entry, target: Option<&'a [u8]>) {
        let target = target.map(|text| self.intern(text)).unwrap_or_default();
        self.entries.push(Entry { target, ..entry });
    }

    fn intern(&mut self, text: &'a [u8]) -> Target {
        *self.known.entry(text).or_insert_with(|| {
            self.targets.push(text.into());
            // As many targets as fds at most, and those are far fewer than 2³².
            Target(u32::try_from(self.targets.len()).unwrap_or(u32::MAX))
        })
    }

    /// The table, of which nothing else is known.
    #[must_use]
    pub fn build(self) -> Table {
        Table {
            entries: self.entries,
            targets: self.targets,
            ..Table::default()
        }
    }
}

/// The name that the kernel has for a file, where it says more than what kind of thing it is.
#[must_use]
pub fn telling_name(kind: Kind, name: &[u8]) -> Option<&[u8]> {
    let is_telling = matches!(
        kind,
        Kind::File
            | Kind::Dir
            | Kind::Fifo
            | Kind::Char
            | Kind::Block
            | Kind::Memfd
            | Kind::Mqueue
            | Kind::Anon
            | Kind::Bpf
            | Kind::Unknown
    );
    (is_telling && !name.is_empty()).then_some(name)
}
