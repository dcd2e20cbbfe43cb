//! Asks where the sockets lead to that stay open: of some of them each second, on a thread of its own.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    commands::{own, round::Round},
    enrich::sockets,
    model::{Model, newest::Newest},
    timers::Timer,
};

/// Slots that are looked at in a second: a millisecond or two.
const SLOTS: usize = 50_000;
/// Sockets that are asked about at once.
const AT_ONCE: usize = 4_096;
/// Sockets that have not been open for so long, nanoseconds, may not be for much longer.
const AGE_NS: u64 = 1_000_000_000;
/// Those that lead nowhere are asked about again after so long: they may have connected.
const AGAIN: Timer = Timer::seconds(30);
/// Between two answers there is so many times the time that one takes.
const PAUSES: u32 = 20;

/// Where sockets lead to, by inode.
pub(super) type Found = Vec<(u64, Vec<u8>)>;

/// The near end of the thread.
pub(super) struct SocketEnds {
    questions: Sender<Vec<(u32, u64)>>,
    answers: Receiver<(Found, Duration)>,
    is_waiting: bool,
    due: Instant,
    /// When each inode was asked about.
    asked: Newest<u64, u64>,
    round: Round,
}

impl SocketEnds {
    pub(super) fn start() -> Result<Self> {
        let (questions, asked) = channel::<Vec<_>>();
        let (answered, answers) = channel();
        thread::Builder::new()
            .name("fdtrace-sockets".to_owned())
            .spawn(move || {
                own::have_time();
                while let Ok(questions) = asked.recv() {
                    let start = Instant::now();
                    let ends = sockets::ends(&questions);
                    if answered.send((ends, start.elapsed())).is_err() {
                        return;
                    }
                }
            })
            .context("starting the thread that looks sockets up")?;
        Ok(Self {
            questions,
            answers,
            is_waiting: false,
            due: Instant::now(),
            asked: Newest::default(),
            round: Round::default(),
        })
    }

    /// What has been found since, and asks for more.
    pub(super) fn look(&mut self, model: &Model, now_ns: u64) -> Found {
        let mut found = Found::new();
        if let Ok((ends, took)) = self.answers.try_recv() {
            self.is_waiting = false;
            self.due = Instant::now() + took * PAUSES;
            found = ends;
        }
        if !self.is_waiting && self.due <= Instant::now() {
            let questions = self.choose(model, now_ns);
            self.is_waiting = !questions.is_empty() && self.questions.send(questions).is_ok();
        }
        found
    }

    /// Sockets of which nothing is known, each with a process that has it.
    fn choose(&mut self, model: &Model, now_ns: u64) -> Vec<(u32, u64)> {
        let mut questions = Vec::new();
        let asked = &mut self.asked;
        self.round.go_on(&model.tables, SLOTS, |table, _, slot| {
            let is_new = || {
                let asked_ns = asked.get(&slot.inode);
                asked_ns.is_none_or(|asked_ns| now_ns.saturating_sub(*asked_ns) > AGAIN.ns())
            };
            if slot.kind.has_end()
                && slot.since_ns.saturating_add(AGE_NS) <= now_ns
                && model.sockets.end(slot.inode).is_none()
                && is_new()
            {
                asked.insert(slot.inode, now_ns);
                questions.push((table.tgid, slot.inode));
            }
            questions.len() < AT_ONCE
        });
        questions
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::fs::MetadataExt},
    };

    use fdtrace_common::{
        change::{OpenRecord, ThreadRecord},
        record::{RECORD_BOUND, RECORD_OPENED},
    };
    use zerocopy::FromZeros;

    use super::*;
    use crate::{model::kind::Kind, stream::record::Changed};

    const SECOND: u64 = 1_000_000_000;

    /// A table of this process with one socket, opened after a second.
    fn model(inode: u64) -> Model {
        let mut model = Model::default();
        let pid = std::process::id();
        let bound = ThreadRecord {
            kind: RECORD_BOUND,
            files: 1,
            tgid: pid,
            tid: pid,
            ..ThreadRecord::new_zeroed()
        };
        model.tables.apply(Changed::Bound(&bound), &mut ());
        let opened = OpenRecord {
            kind: RECORD_OPENED,
            fd: 3,
            files: 1,
            file: 7,
            time_ns: SECOND,
            inode,
            mode: 0o140_777,
            family: 2,
            socket_type: 1,
            ..OpenRecord::new_zeroed()
        };
        model.tables.apply(Changed::Opened(&opened), &mut ());
        let slot = model.tables.table(1).unwrap().get(3).unwrap();
        assert_eq!(slot.kind, Kind::Tcp);
        model
    }

    #[test]
    fn a_socket_that_stays_is_asked_about_once() {
        let mut ends = SocketEnds::start().unwrap();
        let model = model(1);
        assert_eq!(ends.choose(&model, SECOND), [], "it may not stay");
        let expected = [(std::process::id(), 1)];
        assert_eq!(ends.choose(&model, 2 * SECOND), expected);
        assert_eq!(ends.choose(&model, 3 * SECOND), []);
        let later = 3 * SECOND + AGAIN.ns();
        assert_eq!(
            ends.choose(&model, later),
            expected,
            "it may have connected"
        );
    }

    #[test]
    fn what_is_found_is_told_in_a_later_look() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let inode = std::fs::metadata(path).unwrap().ino();
        let mut ends = SocketEnds::start().unwrap();
        let model = model(inode);
        assert!(ends.look(&model, 2 * SECOND).is_empty());
        assert!(ends.is_waiting);
        let (found, _) = ends.answers.recv().unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(found, [(inode, format!("*:{port}").into_bytes())]);
    }
}
