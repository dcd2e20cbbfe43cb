//! An open file as it is shown: what a record of the iterator says, in words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fdtrace_common::file::FileRecord;
use rustc_hash::FxHashMap;

pub use self::{comm::Comm, flags::Flags};
use super::{
    kind::{AF_INET, AF_INET6, Inode, Kind, Prefix},
    tcp_state::TcpState,
};

mod comm;
mod flags;

/// One fd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The table.
    pub files: u64,
    /// The open file description; fds that share it were dup'ed or inherited.
    pub description: u64,
    /// The process.
    pub tgid: u32,
    /// The thread whose table it is: the process's own, unless it has unshared.
    pub tid: u32,
    /// The process's real user.
    pub uid: u32,
    /// The name of the thread.
    pub comm: Comm,
    /// The number.
    pub fd: u32,
    /// What it is.
    pub kind: Kind,
    /// What it leads to: a path, a name in brackets, a local address. Hostile text.
    pub target: Vec<u8>,
    /// The file has been deleted.
    pub deleted: bool,
    /// How it is open.
    pub flags: Flags,
    /// Inode number.
    pub inode: u64,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// The inode number of the unix socket at the other end.
    pub peer_inode: Option<u64>,
    /// The other end's address.
    pub remote: Option<SocketAddr>,
    /// The state of a connection.
    pub state: Option<TcpState>,
}

const DELETED: &[u8] = b" (deleted)";

impl OpenFile {
    /// Reads a record; `path` is what the kernel says of it, empty where it says nothing.
    #[must_use]
    pub fn new(record: &FileRecord, path: &[u8]) -> Self {
        let name = until_nul(&record.name);
        let inode = Inode {
            magic: record.magic,
            mode: record.mode,
            family: record.family,
            socket_type: record.socket_type,
        };
        let kind = inode.kind(Prefix::of(name));
        let has_links = !matches!(kind, Kind::File | Kind::Dir | Kind::Fifo | Kind::Mqueue);
        let (path, is_marked) = match path.strip_suffix(DELETED) {
            Some(stripped) if record.links == 0 => (stripped, true),
            _ => (path, false),
        };
        let addresses = addresses(record);
        let target = match (kind, addresses) {
            (Kind::Tcp | Kind::Udp, Some((local, _))) => local.to_string().into_bytes(),
            (Kind::Unix, _) if record.unix_length > 0 => unix_name(record),
            _ if !path.is_empty() => path.to_vec(),
            _ => name.to_vec(),
        };
        Self {
            files: record.files,
            description: record.file,
            tgid: record.tgid,
            tid: record.tid,
            uid: record.uid,
            comm: Comm::new(record.comm),
            fd: record.fd,
            kind,
            target,
            deleted: is_marked || (record.links == 0 && !has_links),
            flags: Flags {
                bits: record.flags,
                cloexec: record.close_on_exec == 1,
            },
            inode: record.inode,
            device: (record.device >> 20, record.device & 0xf_ffff),
            peer_inode: Some(record.peer_inode).filter(|inode| *inode != 0),
            remote: addresses
                .map(|(_, remote)| remote)
                .filter(|remote| remote.port() != 0),
            state: state(record, kind),
        }
    }

    /// Leaves the files of each table of a process once, with the first thread that has it.
    ///
    /// The kernel's iterator passes over threads that have their leader's table (`task_seq_get_next` in
    /// `kernel/bpf/task_iter.c`, 5.10). A leader that has exited has none, so the table that its threads share is
    /// visited once for each of them.
    pub fn one_a_table(files: &mut Vec<Self>) {
        let mut first = FxHashMap::default();
        // Files come table by table.
        let mut current = None;
        let mut is_first = true;
        files.retain(|file| {
            let visit = (file.tgid, file.files, file.tid);
            if current != Some(visit) {
                current = Some(visit);
                is_first = *first.entry((file.tgid, file.files)).or_insert(file.tid) == file.tid;
            }
            is_first
        });
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Both ends of an internet socket.
fn addresses(record: &FileRecord) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |bytes: &[u8; 16]| match record.family {
        AF_INET => Some(IpAddr::from(Ipv4Addr::new(
            bytes[0], bytes[1], bytes[2], bytes[3],
        ))),
        AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(*bytes)).to_canonical()),
        _ => None,
    };
    let port = |port: u32| u16::try_from(port).unwrap_or_default();
    Some((
        SocketAddr::new(ip(&record.local)?, port(record.local_port)),
        SocketAddr::new(ip(&record.remote)?, port(record.remote_port)),
    ))
}

/// The path a unix socket is bound to; an abstract one starts with `@`, as in ss and lsof.
fn unix_name(record: &FileRecord) -> Vec<u8> {
    let length = (record.unix_length as usize).min(record.unix.len());
    match &record.unix[..length] {
        [0, name @ ..] => [b"@", name].concat(),
        path => until_nul(path).to_vec(),
    }
}

fn state(record: &FileRecord, kind: Kind) -> Option<TcpState> {
    let has_state = matches!(kind, Kind::Tcp | Kind::Unix);
    TcpState::new(record.state).filter(|_| has_state)
}

#[cfg(test)]
mod tests;
