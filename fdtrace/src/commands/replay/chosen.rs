//! The filters of a command, applied to what a recording tells.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::{
    cli::ScopeArgs,
    commands::{
        follow::{Counts, Listener, Lost},
        troubles::Troubles,
        wanted::has_name,
    },
    engine::{
        change::{Change, Sink},
        opener::{Sequence, Slot},
    },
    enrich::{lookup::Looked, stacks::Stack},
    ground::host::Host,
    stream::{clock::Clock, decode::Alarm},
    tracker::{Handler, Known},
};

/// Whom the filters let through.
pub(in crate::commands) struct Choice<'a> {
    scope: &'a ScopeArgs,
}

impl<'a> Choice<'a> {
    /// Refuses what a recording cannot answer.
    pub(in crate::commands) fn new(scope: &'a ScopeArgs) -> Result<Self> {
        if scope.follow || !scope.cgroups.is_empty() {
            bail!(
                "a recording does not tell families and cgroups: choose with --pid, --comm or --uid, \
                 or give --follow and --cgroup to `fdtrace record`"
            );
        }
        Ok(Self { scope })
    }

    /// `names`: those of the thread and of its process.
    fn lets_through(&self, tgid: u32, names: [&[u8]; 2], uid: u32) -> bool {
        let part = self.scope.comm.as_deref().unwrap_or_default().as_bytes();
        (self.scope.pids.is_empty() || self.scope.pids.contains(&tgid))
            && names.iter().any(|name| has_name(name, part))
            && self.scope.uid.is_none_or(|wanted| uid == wanted)
    }
}

/// A listener that hears of no others.
pub(in crate::commands) struct Chosen<'a, L> {
    pub(in crate::commands) inner: &'a mut L,
    pub(in crate::commands) choice: Choice<'a>,
}

impl<L: Listener> Sink for Chosen<'_, L> {
    const WANTS_ALL: bool = L::WANTS_ALL;

    fn change(&mut self, mut change: Change, name: &[u8]) {
        change.in_scope &=
            self.choice
                .lets_through(change.tgid, [&change.comm, &change.process], change.uid);
        self.inner.change(change, name);
    }
}

impl<L: Listener> Handler for Chosen<'_, L> {
    fn alarm(&mut self, record: &[u8], known: &mut Known<'_>) {
        let is_wanted = Alarm::decode(record).is_ok_and(|alarm| {
            let tgid = alarm.key.tgid;
            let leader = known.engine.thread(tgid);
            let process = leader.map_or([0; 16], |leader| leader.comm);
            self.choice
                .lets_through(tgid, [&alarm.comm, &process], alarm.uid)
        });
        if is_wanted {
            self.inner.alarm(record, known);
        }
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }
}

impl<L: Listener> Listener for Chosen<'_, L> {
    fn lost(&mut self, lost: Lost) {
        self.inner.lost(lost);
    }

    fn notice(&mut self, text: String) {
        self.inner.notice(text);
    }

    fn at(&mut self, clock: Clock, host: Host) {
        self.inner.at(clock, host);
    }

    fn armed(&mut self) {
        self.inner.armed();
    }

    fn second(&mut self, counts: &mut dyn Counts, known: &mut Known<'_>, troubles: &mut Troubles) {
        self.inner.second(counts, known, troubles);
    }

    fn is_done(&self) -> bool {
        self.inner.is_done()
    }

    fn taken(&mut self, slot: Slot, number: Sequence) {
        self.inner.taken(slot, number);
    }

    fn resolved(&mut self, numbers: &[Sequence], stack: &Arc<Stack>) {
        self.inner.resolved(numbers, stack);
    }

    fn looked(&mut self, looked: Looked) {
        self.inner.looked(looked);
    }

    fn answered(&mut self, until_ns: u64, known: &mut Known<'_>) {
        self.inner.answered(until_ns, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_chosen_by_its_own_name_and_by_its_processs() {
        let lets_through = |part: &str, names: [&[u8]; 2]| {
            let scope = ScopeArgs {
                comm: Some(part.to_owned()),
                ..ScopeArgs::default()
            };
            Choice::new(&scope).unwrap().lets_through(7, names, 0)
        };
        let names: [&[u8]; 2] = [b"http-exec-1\0\0\0\0\0", b"java\0\0\0\0\0\0\0\0\0\0\0\0"];
        assert!(lets_through("java", names) && lets_through("exec", names));
        assert!(!lets_through("python", names));
        assert!(!lets_through("1java", names), "they are two names");
    }
}
