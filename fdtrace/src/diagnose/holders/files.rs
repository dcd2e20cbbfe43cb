//! What fills the tables of a snapshot: the same groups, of files as they are open now. Nothing is known of
//! their ages.

use std::net::SocketAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Holder, NO_OPENERS, holders_of};
use crate::{
    ground::{file::OpenFile, kind::Kind},
    model::{
        held::{Ends, internet_end},
        names::Names,
        tables::slot::Slot,
    },
};

/// What a socket without a name is called by the kernel.
const NAMELESS: &[u8] = b"socket:[";

/// What fills each table, by the thread whose it is.
pub type ByTable = FxHashMap<u32, Vec<Holder>>;

/// Groups the files of each table, by the thread whose it is.
#[must_use]
pub fn by_table(files: &[OpenFile]) -> ByTable {
    let mut tables: FxHashMap<u32, Vec<&OpenFile>> = FxHashMap::default();
    for file in files {
        tables.entry(file.tid).or_default().push(file);
    }
    let tables = tables.into_iter();
    tables.map(|(tid, files)| (tid, of_table(&files))).collect()
}

fn of_table(files: &[&OpenFile]) -> Vec<Holder> {
    let is_listening = |file: &&&OpenFile| file.kind == Kind::Tcp && file.remote.is_none();
    let listening = files.iter().filter(is_listening);
    let listening: FxHashSet<u16> = listening
        .filter_map(|file| port(file))
        .filter(|port| *port != 0)
        .collect();
    let mut names = Names::default();
    let mut ends = Ends::default();
    let mut slots = Vec::with_capacity(files.len());
    for file in files {
        if let Some(end) = end(file, &listening) {
            ends.insert(file.fd, end);
        }
        let name = if file.deleted {
            names.take(&[&file.target, &b" (deleted)"[..]].concat())
        } else {
            names.take(&file.target)
        };
        let slot = Slot {
            inode: file.inode,
            name,
            kind: file.kind,
            ..Slot::default()
        };
        slots.push((file.fd, slot));
    }
    holders_of(slots.iter().copied(), &names, &ends, NO_OPENERS)
}

/// The port that an internet socket has on this side.
fn port(file: &OpenFile) -> Option<u16> {
    let address = std::str::from_utf8(&file.target).ok()?;
    Some(address.parse::<SocketAddr>().ok()?.port())
}

/// Where a socket leads to.
fn end(file: &OpenFile, listening: &FxHashSet<u16>) -> Option<Vec<u8>> {
    match file.kind {
        Kind::Tcp | Kind::Udp => internet_end(port(file)?, file.remote, listening),
        Kind::Unix => {
            let has_name = !file.target.is_empty() && !file.target.starts_with(NAMELESS);
            has_name.then(|| file.target.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
