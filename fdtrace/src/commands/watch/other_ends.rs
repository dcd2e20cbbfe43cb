//! The other ends of the pipes that fill a table: one walk through all tables a second at most, as for
//! [`super::shared_holders`].

use super::shared_holders::FRESH_NS;
use crate::{
    diagnose::{
        diagnosis::Diagnosis,
        pipe_ends::{self, PipeEnds, Pipes},
    },
    engine::Engine,
};

/// The pipes of the host, as they were at the last walk.
#[derive(Default)]
pub(super) struct OtherEnds {
    last: Option<(u64, Pipes)>,
}

impl OtherEnds {
    /// Who else has the pipes of a table, which is of this process; `None` where pipes are not what fills it.
    pub(super) fn of(
        &mut self,
        diagnosis: Option<&Diagnosis>,
        (files, tgid): (u64, u32),
        engine: &dyn Engine,
        now_ns: u64,
    ) -> Option<PipeEnds> {
        diagnosis.filter(|it| pipe_ends::are_worth_it(&it.holders))?;
        let last = self.last.take();
        let last = last.filter(|(time_ns, _)| now_ns.saturating_sub(*time_ns) < FRESH_NS);
        let (_, pipes) = self
            .last
            .insert(last.unwrap_or_else(|| (now_ns, Pipes::of(engine))));
        Some(pipes.ends(engine, files, tgid))
    }
}
