//! Asks where sockets lead to, soon after they have been opened, on a thread of its own.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustc_hash::FxHashSet;

use crate::{
    commands::{own, round::Round},
    engine::{Engine, table::Socket},
    enrich::sockets::{self, Found, Question},
    ground::{kind::Kind, newest::Newest},
    timers::Timer,
};

/// New sockets are looked for this often: where one leads to is known a little later.
const PERIOD: Duration = Duration::from_millis(500);
/// Slots that are looked at each time: a few milliseconds.
const SLOTS: usize = 100_000;
/// Sockets that are asked about at once.
const AT_ONCE: usize = 16_384;
/// Those that lead nowhere are asked about again after so long, nanoseconds, then after twice as long: they may have
/// connected. Most never do.
const AGAIN_NS: u64 = 1_000_000_000;
/// And then after so long each time.
const AGAIN_MAX: Timer = Timer::seconds(30);
/// States are asked for again after so long, nanoseconds, and sooner in tables near their limits.
const STATE_NS: u64 = 60_000_000_000;
const NEAR_STATE_NS: u64 = 2_000_000_000;
/// Between two answers there is so many times the time that one takes.
const PAUSES: u32 = 10;

/// The near end of the thread.
pub(super) struct SocketEnds {
    questions: Sender<Vec<Question>>,
    answers: Receiver<(Found, Duration)>,
    is_waiting: bool,
    due: Instant,
    /// Each inode that was asked about.
    asked: Newest<u64, Asked>,
    round: Round,
}

/// When somebody has asked, and from when on it may be worth asking again, nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at_ns: u64,
    again_ns: u64,
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
                    let ends = sockets::find(&questions);
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
    pub(super) fn look(&mut self, engine: &dyn Engine, now_ns: u64) -> Found {
        let mut found = Found::default();
        if let Ok((ends, took)) = self.answers.try_recv() {
            self.is_waiting = false;
            self.due = Instant::now() + (took * PAUSES).max(PERIOD);
            found = ends;
        }
        if !self.is_waiting && self.due <= Instant::now() {
            let questions = self.choose(engine, now_ns);
            self.is_waiting = !questions.is_empty() && self.questions.send(questions).is_ok();
            if !self.is_waiting {
                self.due = Instant::now() + PERIOD;
            }
        }
        found
    }

    /// Sockets of which nothing is known, or whose state may have changed, each with a process that has it.
    fn choose(&mut self, engine: &dyn Engine, now_ns: u64) -> Vec<Question> {
        let mut questions = Vec::new();
        let asked = &mut self.asked;
        // Half full or fuller.
        let near: FxHashSet<u32> = engine.limits().map(|task| task.tgid).collect();
        self.round.go_on(engine, SLOTS, |pid, open| {
            if !open.kind.has_end() {
                return true;
            }
            let Socket { end, state, .. } = engine.socket(open.inode);
            let is_known = end.is_some();
            if !is_known || open.kind == Kind::Tcp {
                let before = asked.get(&open.inode).copied();
                let is_due = before.map_or_else(
                    || !is_known || state.is_none(),
                    |before| before.again_ns <= now_ns,
                );
                if is_due {
                    let mut again = ask_again(before, now_ns);
                    if is_known {
                        let is_near = near.contains(&pid);
                        again.again_ns = now_ns + if is_near { NEAR_STATE_NS } else { STATE_NS };
                    }
                    asked.insert(open.inode, again);
                    questions.push(Question {
                        pid,
                        inode: open.inode,
                        kind: open.kind,
                    });
                }
            }
            questions.len() < AT_ONCE
        });
        questions
    }
}

/// Asked now, and again after twice the time that has passed since before.
fn ask_again(before: Option<Asked>, now_ns: u64) -> Asked {
    let passed_ns = before.map_or(0, |before| now_ns.saturating_sub(before.at_ns));
    let pause_ns = passed_ns
        .saturating_mul(2)
        .max(AGAIN_NS)
        .min(AGAIN_MAX.ns());
    Asked {
        at_ns: now_ns,
        again_ns: now_ns.saturating_add(pause_ns),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::fs::MetadataExt},
    };

    use super::*;
    use crate::{
        engine::{fake::Fake, table::OpenFd},
        ground::tcp_state::TcpState,
    };

    const SECOND: u64 = 1_000_000_000;

    /// A table of this process with one socket, opened after a second.
    fn engine(inode: u64) -> Fake {
        let mut engine = Fake::default();
        let pid = std::process::id();
        engine.bind(pid, pid, 1, "");
        let open = OpenFd {
            fd: 3,
            file: 7,
            since_ns: SECOND,
            inode,
            kind: Kind::Tcp,
            ..OpenFd::default()
        };
        engine.open(1, open, "");
        engine
    }

    #[test]
    fn a_socket_is_asked_about_at_once_and_less_and_less_often() {
        let mut ends = SocketEnds::start().unwrap();
        let engine = engine(1);
        let expected = [Question {
            pid: std::process::id(),
            inode: 1,
            kind: Kind::Tcp,
        }];
        let mut asked = Vec::new();
        for second in 1..=120 {
            let questions = ends.choose(&engine, second * SECOND);
            if !questions.is_empty() {
                assert_eq!(questions, expected);
                asked.push(second);
            }
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 62, 92], "it may have connected");
    }

    #[test]
    fn a_socket_that_has_an_end_is_not_asked_about() {
        let mut ends = SocketEnds::start().unwrap();
        let mut engine = engine(1);
        let state = Some(TcpState::ESTABLISHED);
        engine.sockets.insert(1, ("10.0.0.1:80", state));
        assert_eq!(ends.choose(&engine, SECOND), []);
    }

    #[test]
    fn a_state_is_asked_for_again() {
        let mut ends = SocketEnds::start().unwrap();
        let mut engine = engine(1);
        let expected = [Question {
            pid: std::process::id(),
            inode: 1,
            kind: Kind::Tcp,
        }];
        assert_eq!(ends.choose(&engine, SECOND), expected);
        engine.sockets.insert(1, ("10.0.0.1:80", None));
        assert_eq!(ends.choose(&engine, 2 * SECOND), expected);
        assert_eq!(ends.choose(&engine, 3 * SECOND), []);
        assert_eq!(ends.choose(&engine, 2 * SECOND + STATE_NS), expected);
    }

    #[test]
    fn what_is_found_is_told_in_a_later_look() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let inode = std::fs::metadata(path).unwrap().ino();
        let mut ends = SocketEnds::start().unwrap();
        let engine = engine(inode);
        assert_eq!(ends.look(&engine, SECOND), Found::default());
        assert!(ends.is_waiting);
        let (found, _) = ends.answers.recv().unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(found.ends, [(inode, format!("*:{port}").into_bytes())]);
        assert_eq!(found.states, [(inode, TcpState::LISTEN)]);
    }
}
