//! Looking at what is open in all tables, a part of it at a time.

use crate::engine::{Engine, table::OpenFd};

/// Where the last look has ended.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Tables still to be looked at, the next one last.
    tables: Vec<u64>,
    /// The first fd of that one to be looked at.
    from: u32,
}

impl Round {
    /// Goes on with so many fds, but at most to the end of this round; `visit` is given a process that has one, and says
    /// whether it has room for the next one.
    pub(super) fn go_on(
        &mut self,
        engine: &dyn Engine,
        fds: usize,
        mut visit: impl FnMut(u32, OpenFd) -> bool,
    ) {
        if self.tables.is_empty() {
            self.tables = engine.tables().iter().map(|table| table.files).collect();
            self.from = 0;
        }
        let mut left = fds;
        while let Some(files) = self.tables.last() {
            let table = engine.head(*files).filter(|table| table.is_used);
            let from = self.from;
            let fds = table.into_iter().flat_map(|table| {
                let fds = engine.fds(table.files, from);
                fds.map(move |open| (table.tgid, open))
            });
            for (pid, open) in fds {
                self.from = open.fd;
                if left == 0 || !visit(pid, open) {
                    return;
                }
                left -= 1;
            }
            self.tables.pop();
            self.from = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::Fake;

    /// Two tables with as many files each.
    fn tables(fds: u32) -> Fake {
        let mut engine = Fake::default();
        for (files, tid) in [(1, 1), (2, 2)] {
            engine.bind(1, tid, files, "");
            for fd in 0..fds {
                let open = OpenFd {
                    fd,
                    file: u64::from(fd) + 1,
                    ..OpenFd::default()
                };
                engine.open(files, open, "");
            }
        }
        engine
    }

    #[test]
    fn every_slot_is_looked_at_once_in_a_round() {
        let tables = tables(100);
        for part in [1, 7, 100, 1_000] {
            let (mut round, mut seen) = (Round::default(), Vec::new());
            for _ in 0..200_usize.div_ceil(part) {
                round.go_on(&tables, part, |_, open| {
                    seen.push(open.file);
                    true
                });
            }
            seen.sort_unstable();
            let expected: Vec<_> = (1..=100).flat_map(|file| [file, file]).collect();
            assert_eq!(seen, expected, "{part} at a time");
        }
    }

    #[test]
    fn who_has_no_room_gets_the_same_slot_again() {
        let (tables, mut round) = (tables(3), Round::default());
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut room = 2;
            round.go_on(&tables, 100, |_, open| {
                if room > 0 {
                    seen.push(open.fd);
                }
                room -= 1;
                room >= 0
            });
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 1, 1, 2, 2]);
    }
}
