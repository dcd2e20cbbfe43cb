//! The engine that replays records: every change of every slot is applied, in order. Pure: no aya, no files, no clock of
//! its own. Whoever reads tables knows [`crate::engine::Engine`] instead, which this implements in `known`.

pub mod held;
mod known;
pub mod limits;
pub mod names;
mod seen;
pub mod tables;

use fdtrace_common::{alarm::AlarmRecord, change::OpenRecord, held::HeldRecord, stack::FAILING};
use zerocopy::FromBytes;

use self::{
    held::Held,
    limits::Limits,
    tables::{Tables, reconcile::Pass},
};
use crate::engine::{
    opener::{Sequence, Slot},
    openers::Openers,
    sockets::Sockets,
    trend::Trends,
};

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Model {
    /// Every table on the host.
    pub tables: Tables,
    /// How full they have been.
    pub trends: Trends,
    /// How full they may be.
    pub limits: Limits,
    /// What they held when they ran out.
    pub held: Held,
    /// Which stack has opened what.
    pub openers: Openers,
    /// Where sockets lead to.
    pub sockets: Sockets,
}

impl Model {
    /// A slot of a table that has just run out.
    pub fn hold(&mut self, record: &HeldRecord) {
        self.sockets.take_peer(&record.slot);
        self.held.take(record, self.tables.names_mut());
    }

    /// An iterator has shown this slot.
    pub fn show(&mut self, pass: &mut Pass, record: &OpenRecord) {
        self.sockets.take_peer(record);
        pass.slot(&mut self.tables, record);
    }

    /// An alarm has been dealt with, and with it what its table was told to hold.
    pub fn release_held(&mut self, alarm: &[u8]) {
        if let Ok(alarm) = AlarmRecord::read_from_bytes(alarm) {
            let names = self.tables.names_mut();
            self.held.release(alarm.key.files, alarm.tid, names);
        }
    }

    /// The stack of the call that an alarm is of. It belongs to nothing else.
    pub fn take_failing(&mut self, alarm: &[u8]) -> Option<Sequence> {
        let alarm = AlarmRecord::read_from_bytes(alarm).ok()?;
        self.openers.take(alarm.key.files, FAILING | alarm.tid)
    }

    /// A second has gone by.
    pub fn second(&mut self, now_ns: u64) {
        self.trends.take(now_ns, self.tables.counted());
        self.limits.follow(&self.tables);
        self.held.forget_before(now_ns, self.tables.names_mut());
    }

    /// As [`Openers::put`].
    pub fn put_opener(&mut self, slot: Slot, sequence: Sequence, gone: &mut Vec<Sequence>) {
        let tables = &self.tables;
        let is_there = |(files, fd, file): Slot| {
            let slot = tables.table(files).and_then(|table| table.get(fd));
            slot.is_some_and(|slot| slot.file == file)
        };
        self.openers.put(slot, sequence, &is_there, gone);
    }
}
