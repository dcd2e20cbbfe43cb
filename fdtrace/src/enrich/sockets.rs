//! Where sockets lead to, as /proc/PID/net has it: nothing is asked of the processes or the network.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::process::folder;
use crate::ground::{kind::Kind, socket_end::internet_end, tcp_state::TcpState};

/// Bytes of a unix socket's path that are kept.
const PATH_MAX: usize = 108;

/// A socket that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// A process that has it.
    pub pid: u32,
    /// Its inode number.
    pub inode: u64,
    /// What it is: of others than TCP, UDP and unix nothing is told.
    pub kind: Kind,
}

/// What one network namespace is asked.
struct Namespace {
    /// Where it is under /proc: a process in it.
    folder: PathBuf,
    wanted: FxHashSet<u64>,
    kinds: FxHashSet<Kind>,
}

/// What is found of sockets, by inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where they lead to.
    pub ends: Vec<(u64, Vec<u8>)>,
    /// States of TCP connections.
    pub states: Vec<(u64, TcpState)>,
}

/// Ends and states of sockets, by inode number. Of those that lead nowhere nothing is told. No more is read than these kinds
/// need: on a busy host each file takes its time.
#[must_use]
pub fn find(questions: &[Question]) -> Found {
    // All processes of a network namespace see the same files.
    let mut namespaces: FxHashMap<PathBuf, Namespace> = FxHashMap::default();
    for Question { pid, inode, kind } in questions {
        let folder = folder(*pid);
        if let Ok(name) = fs::read_link(folder.join("ns/net")) {
            let namespace = namespaces.entry(name).or_insert_with(|| Namespace {
                folder,
                wanted: FxHashSet::default(),
                kinds: FxHashSet::default(),
            });
            namespace.wanted.insert(*inode);
            namespace.kinds.insert(*kind);
        }
    }
    let mut found = Found::default();
    for Namespace {
        folder,
        wanted,
        kinds,
    } in namespaces.values()
    {
        let lines = |name: &str| lines(folder.join("net").join(name));
        for (kind, names) in [(Kind::Tcp, ["tcp", "tcp6"]), (Kind::Udp, ["udp", "udp6"])] {
            if !kinds.contains(&kind) {
                continue;
            }
            let mut internet = Internet::default();
            for line in names.into_iter().flat_map(lines) {
                // The first line has the names of the fields.
                if let Some((inode, state)) = internet.take(&line, wanted)
                    && kind == Kind::Tcp
                {
                    found.states.push((inode, state));
                }
            }
            found.ends.extend(internet.ends());
        }
        if kinds.contains(&Kind::Unix) {
            found.ends.extend(unix(lines("unix"), wanted));
        }
    }
    found
}

/// As many as can be read, whatever is in them.
fn lines(path: PathBuf) -> impl Iterator<Item = Vec<u8>> {
    let file = File::open(path).ok().map(BufReader::new);
    let lines = file.into_iter().flat_map(|file| file.split(b'\n'));
    lines.map_while(Result::ok)
}

/// Sockets of one namespace.
#[derive(Default)]
struct Internet {
    listening: FxHashSet<u16>,
    wanted: Vec<(u64, u16, Option<SocketAddr>)>,
}

impl Internet {
    /// A line of tcp, tcp6, udp or udp6 (`proc_net(5)`): number, this end, the other end, state, queues,
    /// timer, retransmissions, user, timeout, inode. Inode and state of one that is wanted.
    fn take(&mut self, line: &[u8], wanted: &FxHashSet<u64>) -> Option<(u64, TcpState)> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let port = address(local)?.port();
        let state = TcpState::new(u32::from_str_radix(state, 16).ok()?)?;
        if state == TcpState::LISTEN {
            self.listening.insert(port);
        }
        let inode = fields.nth(5)?.parse().ok()?;
        if wanted.contains(&inode) {
            let remote = address(remote).filter(|remote| remote.port() != 0);
            self.wanted.push((inode, port, remote));
            return Some((inode, state));
        }
        None
    }

    fn ends(self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let ends = self.wanted.into_iter();
        ends.filter_map(move |(inode, port, remote)| {
            Some((inode, internet_end(port, remote, &self.listening)?))
        })
    }
}

/// `0100007F:1F90`: words as they lie in memory, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?];
        let bytes = words.as_flattened().first_chunk()?;
        IpAddr::from(Ipv6Addr::from(*bytes)).to_canonical()
    };
    Some(SocketAddr::new(address, port))
}

/// Lines of unix: address, references, protocol, flags, type, state, inode, and the path that it is bound
/// to, if any. A path can look like lines of its own: of an inode that is there twice nothing is believed.
fn unix(lines: impl Iterator<Item = Vec<u8>>, wanted: &FxHashSet<u64>) -> Vec<(u64, Vec<u8>)> {
    let mut paths: FxHashMap<u64, Option<Vec<u8>>> = FxHashMap::default();
    for line in lines {
        let Some((inode, path)) = inode_and_path(&line) else {
            continue;
        };
        if !wanted.contains(&inode) {
            continue;
        }
        let path = (!path.is_empty()).then(|| path[..path.len().min(PATH_MAX)].to_vec());
        let is_twice = paths.insert(inode, path).is_some();
        if is_twice {
            paths.insert(inode, None);
        }
    }
    let paths = paths.into_iter();
    paths
        .filter_map(|(inode, path)| Some((inode, path?)))
        .collect()
}

/// The seventh field, and what is behind the space that follows it.
fn inode_and_path(line: &[u8]) -> Option<(u64, &[u8])> {
    let (mut field, mut rest) = (&[][..], line);
    for _ in 0..7 {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[start..].iter().position(|byte| *byte == b' ');
        let end = end.map_or(rest.len(), |length| start + length);
        field = &rest[start..end];
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    let inode = std::str::from_utf8(field).ok()?.parse().ok()?;
    Some((inode, rest))
}

#[cfg(test)]
mod tests;
