//! What tables held when they ran out, as the kernel told it on the spot: also of processes that are gone
//! a moment later, of tables that no look has shown yet, and with the ends of their sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fdtrace_common::held::{HELD_MAX, HeldRecord, SHUTDOWN_MASK, WHOLE};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    names::Names,
    tables::{slot::Slot, table::Table},
};
use crate::{
    engine::table::Connection,
    ground::{
        kind::{AF_INET, AF_INET6, AF_UNIX, Kind},
        socket_end::internet_end,
        tcp_state::TcpState,
    },
};

/// Tables kept at once: the newest.
const TABLES_MAX: usize = 64;
/// Slots kept at once, all tables together: 8 MiB if all of them are sockets.
const SLOTS_MAX: usize = 8 * HELD_MAX as usize;
/// They are kept for so long, nanoseconds: the alarm comes right behind its table.
const KEPT_NS: u64 = 2_000_000_000;

/// Where sockets of a table lead to, by fd: as far as the kernel has told. Hostile text.
pub type Ends = FxHashMap<u32, Vec<u8>>;

/// What is known of the connections of a table, by fd.
pub type States = FxHashMap<u32, Connection>;

/// The tables told last.
#[derive(Debug, Default)]
pub struct Held {
    /// By table and the thread that ran into its limit.
    tables: FxHashMap<(u64, u32), HeldTable>,
    slots: usize,
}

/// One of them.
#[derive(Debug, Default)]
pub struct HeldTable {
    time_ns: u64,
    /// All its slots were told, and not only its sockets.
    is_whole: bool,
    slots: Vec<(u32, Slot)>,
    sockets: Vec<(u32, Kind, HeldRecord)>,
}

impl Held {
    /// Takes a slot in.
    pub fn take(&mut self, record: &HeldRecord, names: &mut Names) {
        let key = (record.slot.files, record.slot.tid);
        let is_new = !self.tables.contains_key(&key);
        if is_new && self.tables.len() >= TABLES_MAX || self.slots >= SLOTS_MAX {
            self.forget_oldest(names);
        }
        let table = self.tables.entry(key).or_default();
        let last = table.slots.last();
        if last.is_some_and(|(fd, _)| *fd >= record.slot.fd) {
            // From the beginning again.
            self.slots -= table.slots.len();
            table.clear(names);
        }
        self.slots += 1;
        let mut slot = Slot::new(&record.slot, names);
        slot.since_ns = 0;
        table.time_ns = record.slot.time_ns;
        table.is_whole = record.slot.flags & WHOLE != 0;
        table.slots.push((record.slot.fd, slot));
        if record.slot.family != 0 {
            table.sockets.push((record.slot.fd, slot.kind, *record));
        }
    }

    /// What a table held when this thread ran into its limit.
    #[must_use]
    pub fn of(&self, files: u64, tid: u32) -> Option<&HeldTable> {
        self.tables.get(&(files, tid))
    }

    /// Forgets a table whose alarm has come: what this thread runs into next is told anew, or not at all.
    pub fn release(&mut self, files: u64, tid: u32, names: &mut Names) {
        if let Some(mut table) = self.tables.remove(&(files, tid)) {
            self.slots -= table.slots.len();
            table.clear(names);
        }
    }

    /// Forgets what is too old to belong to an alarm that is still to come.
    pub fn forget_before(&mut self, now_ns: u64, names: &mut Names) {
        let slots = &mut self.slots;
        self.tables.retain(|_, table| {
            let is_new = table.time_ns.saturating_add(KEPT_NS) > now_ns;
            if !is_new {
                *slots -= table.slots.len();
                table.clear(names);
            }
            is_new
        });
    }

    fn forget_oldest(&mut self, names: &mut Names) {
        let oldest = self.tables.iter().min_by_key(|(_, table)| table.time_ns);
        let oldest = oldest.map(|(key, _)| *key);
        if let Some((files, tid)) = oldest {
            self.release(files, tid, names);
        }
    }
}

impl HeldTable {
    fn clear(&mut self, names: &mut Names) {
        for (_, slot) in self.slots.drain(..) {
            names.give_back(slot.name);
        }
        self.sockets.clear();
    }

    /// The table as it was, from what was known of it: what has come since the last look, at `looked_ns`,
    /// is as old as that at most. Where nothing was known, the process may have been started after that look,
    /// at `started_ns` (0: not known), and its table holds nothing older. `None` where only sockets were told,
    /// for whoever knows the rest.
    #[must_use]
    pub fn applied_to(
        &self,
        known: Option<&Table>,
        looked_ns: u64,
        started_ns: u64,
    ) -> Option<Table> {
        if !self.is_whole {
            return None;
        }
        let is_new = known.is_none() && looked_ns > 0 && started_ns > looked_ns;
        let since_ns = match known {
            Some(_) => looked_ns,
            None if is_new => started_ns,
            None => 0,
        };
        let mut table = known.cloned().unwrap_or_default();
        if is_new {
            table.made_ns = started_ns;
        }
        // It is looked at and forgotten, and counts as no user of its names.
        let uncounted = &mut Names::default();
        let held: FxHashSet<u32> = self.slots.iter().map(|(fd, _)| *fd).collect();
        let told = table
            .slots()
            .map(|(fd, _)| fd)
            .take_while(|fd| *fd < HELD_MAX);
        let gone: Vec<u32> = told.filter(|fd| !held.contains(fd)).collect();
        for fd in gone {
            table.take(fd, 0, uncounted);
        }
        for (fd, slot) in &self.slots {
            if table.get(*fd).is_some_and(|known| known.file == slot.file) {
                continue;
            }
            let slot = Slot { since_ns, ..*slot };
            // Only numbers that no table has are refused.
            let _ = table.put(*fd, slot, 0, uncounted);
        }
        Some(table)
    }

    /// Where its sockets lead to: to the other end where they have connected to it, else to the port that
    /// they came in by or wait on, or a unix socket's path.
    #[must_use]
    pub fn ends(&self, table: &Table) -> Ends {
        let ports = self.listening_ports();
        let ends = self.sockets_in(table).filter_map(|(fd, _, record)| {
            let end = match u32::from(record.slot.family) {
                AF_INET | AF_INET6 => internet_end(record.local_port, remote(record), &ports)?,
                AF_UNIX => unix_end(record)?,
                _ => return None,
            };
            Some((*fd, end))
        });
        ends.collect()
    }

    /// What is known of its connections. Older recordings have no states.
    #[must_use]
    pub fn states(&self, table: &Table) -> States {
        let ports = self.listening_ports();
        let listens = |record: &HeldRecord| state(record) == Some(TcpState::LISTEN);
        let unix = self.sockets.iter().map(|(_, _, record)| record);
        let unix = unix.filter(|record| listens(record) && is_unix(record));
        let paths: FxHashSet<_> = unix.filter_map(unix_end).collect();
        let states = self.sockets_in(table).filter_map(|(fd, kind, record)| {
            let is_client = match kind {
                Kind::Tcp => record.remote_port != 0 && ports.contains(&record.local_port),
                Kind::Unix => unix_end(record).is_some_and(|path| paths.contains(&path)),
                _ => return None,
            };
            let connection = Connection {
                state: state(record)?,
                is_client,
            };
            Some((*fd, connection))
        });
        states.collect()
    }

    /// Ports that are waited on.
    fn listening_ports(&self) -> FxHashSet<u16> {
        let listens = |(_, kind, record): &&(u32, Kind, HeldRecord)| {
            *kind == Kind::Tcp && record.remote_port == 0 && record.local_port != 0
        };
        let listening = self.sockets.iter().filter(listens);
        listening.map(|(_, _, record)| record.local_port).collect()
    }

    /// Its sockets, as far as they are in the table.
    fn sockets_in(&self, table: &Table) -> impl Iterator<Item = &(u32, Kind, HeldRecord)> {
        self.sockets.iter().filter(|(fd, _, record)| {
            let slot = table.get(*fd);
            slot.is_some_and(|slot| slot.file == record.slot.file)
        })
    }
}

fn is_unix(record: &HeldRecord) -> bool {
    u32::from(record.slot.family) == AF_UNIX
}

fn state(record: &HeldRecord) -> Option<TcpState> {
    let state = TcpState::new(u32::from(record.state))?;
    let is_alone = is_unix(record) && record.shutdown == SHUTDOWN_MASK;
    if is_alone && state == TcpState::ESTABLISHED {
        return Some(TcpState::CLOSE_WAIT);
    }
    Some(state)
}

/// The other end's address, where there is one.
fn remote(record: &HeldRecord) -> Option<SocketAddr> {
    let bytes = record.remote;
    let address = if u32::from(record.slot.family) == AF_INET6 {
        IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
    } else {
        IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    };
    (record.remote_port != 0).then_some(SocketAddr::new(address, record.remote_port))
}

fn unix_end(record: &HeldRecord) -> Option<Vec<u8>> {
    let length = usize::from(record.unix_length).min(record.unix.len());
    match &record.unix[..length] {
        [] => None,
        [0, name @ ..] => Some([b"@", name].concat()),
        path => {
            let path = path.split(|byte| *byte == 0).next()?;
            Some(path.to_vec())
        }
    }
}

#[cfg(test)]
mod tests;
