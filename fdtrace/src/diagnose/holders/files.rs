//! What fills the tables of a snapshot: the same groups, of files as they are open now. Nothing is known of
//! their ages.

use std::{borrow::Cow, net::SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Holder, folders::Folders, holders};
use crate::{
    engine::table::{Connection, Entry, OpenFd, TableBuilder, telling_name},
    ground::{file::OpenFile, kind::Kind, socket_end::internet_end},
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
    let tables = tables.into_iter().map(|(tid, mut files)| {
        files.sort_by_key(|file| file.fd);
        (tid, of_table(&files))
    });
    tables.collect()
}

/// The files of one table, in the order of their numbers.
fn of_table(files: &[&OpenFile]) -> Vec<Holder> {
    let is_listening = |file: &&&OpenFile| file.kind == Kind::Tcp && file.remote.is_none();
    let listening = files.iter().filter(is_listening);
    let listening: FxHashSet<u16> = listening
        .filter_map(|file| port(file))
        .filter(|port| *port != 0)
        .collect();
    let targets: Vec<_> = files.iter().map(|file| target(file, &listening)).collect();
    let mut table = TableBuilder::with_capacity(files.len());
    for (file, target) in files.iter().zip(&targets) {
        let open = OpenFd {
            fd: file.fd,
            inode: file.inode,
            kind: file.kind,
            ..OpenFd::default()
        };
        let connection = file.state.map(|state| Connection {
            state,
            is_client: false,
        });
        let entry = Entry {
            open,
            connection,
            ..Entry::default()
        };
        table.push(entry, target.as_deref());
    }
    let mut holders = holders(&table.build());
    for holder in holders.iter_mut().filter(|holder| !holder.files.is_empty()) {
        let chosen = holder.files.iter();
        let paths = chosen.filter_map(|(fd, _)| {
            let index = files.binary_search_by_key(fd, |file| file.fd).ok()?;
            targets[index].as_deref()
        });
        holder.folders = Some(Folders::of(paths));
    }
    holders
}

/// What a file leads to, beyond its kind.
fn target<'a>(file: &'a OpenFile, listening: &FxHashSet<u16>) -> Option<Cow<'a, [u8]>> {
    let name = || {
        let mut name = Cow::Borrowed(&*file.target);
        if file.deleted {
            name.to_mut().extend_from_slice(b" (deleted)");
        }
        telling_name(file.kind, &name).is_some().then_some(name)
    };
    end(file, listening).map(Cow::Owned).or_else(name)
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
