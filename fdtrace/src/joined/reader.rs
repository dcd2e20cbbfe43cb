//! A look at the kernel's tables: the one part of this engine that is not pure.

use anyhow::Result;
use fdtrace_common::control::COUNTER_CHUNKS;

use super::{Joined, Look, Missed};
use crate::probe::{
    attach::Session,
    census,
    misses::Misses,
    slots::{self, Slots},
    tables,
};

impl Joined {
    /// Looks at all tables of the host, and forgets what looks before it have found.
    pub fn look(session: &mut Session, slots: &Slots, misses: &Misses) -> Result<Self> {
        Ok(Self::new(Look::read(session, slots, misses)?))
    }
}

impl Look {
    /// All tables of the host as they are now. Slots and misses are those of the session.
    pub fn read(session: &mut Session, slots: &Slots, misses: &Misses) -> Result<Self> {
        let threads = tables::threads(&mut session.ebpf, &session.targets)?;
        let tasks = census::read(&mut session.ebpf, &session.targets)?;
        let mut rows = Vec::new();
        let mut reader = slots::joined(&mut session.ebpf, &session.targets)?;
        while reader.next(|row| rows.push(*row))? {}
        Ok(Self {
            rows,
            threads,
            tasks,
            parts: slots.parts().collect(),
            // Behind the rows: what was missed for one of them has been counted.
            missed: Missed {
                without_chunk: session.shared.counters()[COUNTER_CHUNKS as usize],
                skipped: misses.count().of_slots,
            },
        })
    }
}
