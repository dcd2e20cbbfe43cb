//! Who holds most of what processes share, looked for once a second at most: in a storm of failures the answer is the
//! same for all, and each is a walk through all tables.

use crate::{
    diagnose::{
        cause::Cause,
        shared::{self, Counted, SharedHolder},
    },
    engine::Engine,
};

/// An answer is good for so long, nanoseconds.
pub(super) const FRESH_NS: u64 = 1_000_000_000;

/// The last answer.
#[derive(Default)]
pub(super) struct SharedHolders {
    last: Option<Answer>,
}

struct Answer {
    counted: Counted,
    time_ns: u64,
    holders: Vec<SharedHolder>,
}

impl SharedHolders {
    /// Those of the limit that was hit; `None` where processes share none.
    pub(super) fn of(
        &mut self,
        cause: Cause,
        engine: &dyn Engine,
        now_ns: u64,
    ) -> Option<Vec<SharedHolder>> {
        let counted = shared::counted(cause)?;
        let is_fresh = |last: &&Answer| {
            last.counted == counted && now_ns.saturating_sub(last.time_ns) < FRESH_NS
        };
        if let Some(last) = self.last.as_ref().filter(is_fresh) {
            return Some(last.holders.clone());
        }
        let holders = shared::candidates(engine, counted);
        self.last = Some(Answer {
            counted,
            time_ns: now_ns,
            holders: holders.clone(),
        });
        Some(holders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{fake::Fake, table::OpenFd},
        ground::kind::Kind,
    };

    #[test]
    fn a_walk_a_second_is_enough() {
        let mut engine = Fake::default();
        engine.bind(7, 7, 70, "shim");
        let open = |engine: &mut Fake, fd| {
            let open = OpenFd {
                fd,
                file: u64::from(fd),
                kind: Kind::Inotify,
                ..OpenFd::default()
            };
            engine.open(70, open, "");
        };
        open(&mut engine, 1);
        let mut holders = SharedHolders::default();
        let mut count = |cause, engine: &Fake, now_ns| {
            let holders = holders.of(cause, engine, now_ns)?;
            Some(holders.iter().map(|holder| holder.count).sum::<u64>())
        };
        let inotify = Cause::InotifyInstances;
        assert_eq!(count(inotify, &engine, 5), Some(1));
        open(&mut engine, 2);
        assert_eq!(count(inotify, &engine, FRESH_NS), Some(1), "as before");
        assert_eq!(
            count(Cause::FileMax, &engine, FRESH_NS),
            Some(2),
            "another limit"
        );
        assert_eq!(count(inotify, &engine, 2 * FRESH_NS), Some(2));
        assert_eq!(count(Cause::RlimitNofile, &engine, 5), None);
    }
}
