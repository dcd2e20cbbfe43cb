//! The other ends of the pipes and unix sockets that fill a table: one walk through all tables a second at most, as for
//! [`super::shared_holders`].

use super::shared_holders::FRESH_NS;
use crate::{
    diagnose::{
        diagnosis::Diagnosis,
        ends::{self, Ends, Users},
    },
    engine::{Engine, table::Sighting},
    ground::kind::Kind,
};

/// Who has what, as it was at the last walk.
pub(super) struct OtherEnds {
    last: Option<(u64, Users)>,
    /// Not all processes are followed.
    is_partial: bool,
}

impl OtherEnds {
    /// Where not all processes are followed, nobody knows whether the other end of a pipe is closed; the kernel tells it of
    /// sockets.
    pub(super) fn new(is_partial: bool) -> Self {
        Self {
            last: None,
            is_partial,
        }
    }

    /// Who else has what fills a table, and what it receives files by, if those were dropped.
    pub(super) fn of(
        &mut self,
        diagnosis: Option<&Diagnosis>,
        seen: &Sighting,
        receives_by: Option<u32>,
        engine: &dyn Engine,
        now_ns: u64,
    ) -> Ends {
        let fills = |kind| diagnosis.is_some_and(|it| ends::are_worth_it(&it.holders, kind));
        let (pipes, unix) = (!self.is_partial && fills(Kind::Pipe), fills(Kind::Unix));
        if !pipes && !unix && receives_by.is_none() {
            return Ends::default();
        }
        let Some(table) = engine.table_at(seen) else {
            return Ends::default();
        };
        let last = self.last.take();
        let last = last.filter(|(time_ns, _)| now_ns.saturating_sub(*time_ns) < FRESH_NS);
        let (_, users) = self
            .last
            .insert(last.unwrap_or_else(|| (now_ns, Users::of(engine))));
        let tgid = seen.tgid;
        Ends {
            pipes: pipes.then(|| users.of_pipes(engine, &table, tgid)),
            unix: unix.then(|| users.of_unix(engine, &table, tgid)),
            sent_by: receives_by.and_then(|fd| users.senders(engine, &table, (tgid, fd))),
        }
    }
}
