//! What is open, since when, and by whom: the one trait between whatever follows tables and whoever reads them.
//!
//! Readers (`diagnose`, the commands, recordings) know [`Engine`] and the plain data that it hands out, and nothing of
//! how it came to be known. So the trait has only what any engine can tell that joins the kernel's own tables with notes
//! of its hooks. Not in it: the order of changes, and who made each of them in which call. That is a stream of its own
//! ([`change`]), for those who show single changes.
//!
//! Two forms of the same, for their cost: [`Engine::fds`] is what is open, fd by fd, and may be asked of every table
//! every second. [`Engine::table`] adds what each fd leads to and who has opened it.

pub mod change;
pub mod difference;
#[cfg(test)]
pub(crate) mod fake;
pub mod history;
pub mod opener;
pub mod openers;
pub mod sockets;
pub mod storms;
pub mod table;
pub mod trend;

use self::{
    opener::Slot,
    table::{Head, OpenFd, Sighting, Socket, Table, Thread},
};
use crate::{ground::task::Task, stream::recording::Event};

/// What is known of all tables of the host.
pub trait Engine {
    /// When the tables were first known, nanoseconds since boot; 0: not yet. Of whatever began later, all of the past
    /// is known.
    fn first_looked_ns(&self) -> u64;

    /// All tables, in no order.
    fn tables(&self) -> Vec<Head>;

    /// A table by the address of its `files_struct`.
    fn head(&self, files: u64) -> Option<Head>;

    /// A thread.
    fn thread(&self, tid: u32) -> Option<Thread>;

    /// All threads, in no order.
    fn threads(&self) -> Box<dyn Iterator<Item = Thread> + '_>;

    /// The limits of all processes, and how full the kernel has counted their tables to be: one for each process, and
    /// one for each thread with a table of its own, as far as they have been read.
    fn limits(&self) -> Box<dyn Iterator<Item = &Task> + '_>;

    /// The same of one process: by its leader, or by a thread of it that lives on.
    fn limit_of(&self, tgid: u32) -> Option<&Task>;

    /// What is open in a table from a number on, in order; nothing where the table is not known.
    fn fds(&self, files: u64, from: u32) -> Box<dyn Iterator<Item = OpenFd> + '_>;

    /// A table as it is known now.
    fn table(&self, files: u64) -> Option<Table>;

    /// A table as it was when the kernel has counted it: of what was followed and what the kernel has told on the spot,
    /// the one that is nearer to that count. `None` where the table is not known, or is another process's by now.
    fn table_at(&self, sighting: &Sighting) -> Option<Table>;

    /// What is known of a socket, by its inode.
    fn socket(&self, inode: u64) -> Socket<'_>;

    /// All tables as they are now, as a recording that begins here needs them.
    fn snapshot(&self, now_ns: u64, keep: &mut dyn FnMut(Event<'_>));

    /// Is this file still in that slot?
    fn has(&self, (files, fd, file): Slot) -> bool {
        let mut fds = self.fds(files, fd);
        fds.next()
            .is_some_and(|open| (open.fd, open.file) == (fd, file))
    }

    /// Fds open on the whole host, and in how many tables.
    fn size(&self) -> (u64, usize) {
        let tables = self.tables();
        let open = tables.iter().map(|table| u64::from(table.open)).sum();
        (open, tables.len())
    }
}
