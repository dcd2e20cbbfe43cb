//! The thread that asks /proc.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use anyhow::{Context, Result};

use crate::{
    commands::own,
    enrich::{
        lookup::{LookedProcess, Lookup, Text, ThisHost},
        select::AskedSelect,
    },
    ground::place,
    probe::cgroup,
    stream::clock,
};

/// What the thread is asked, in this order; each has one answer.
pub(super) enum Question {
    File {
        pid: u32,
        fd: u32,
        inode: u64,
    },
    /// `started_ns`: as [`Lookup::has_ended`] wants it.
    Process {
        pid: u32,
        started_ns: u64,
        cgroup: Option<Vec<u8>>,
        select: AskedSelect,
    },
    Until(u64),
}

/// See [`Question`].
pub(super) enum Answer {
    File {
        pid: u32,
        inode: u64,
        path: Option<Vec<u8>>,
    },
    Process(Box<LookedProcess>),
    Until(u64),
}

/// Starts it: where it is asked, and where it answers. It ends with whoever asks.
pub(super) fn start() -> Result<(Sender<Question>, Receiver<Answer>)> {
    let (questions, asked) = channel();
    let (answered, answers) = channel();
    thread::Builder::new()
        .name("fdtrace-lookup".to_owned())
        .spawn(move || answer_all(&asked, &answered))
        .context("starting the thread that looks processes up")?;
    Ok((questions, answers))
}

fn answer_all(asked: &Receiver<Question>, answered: &Sender<Answer>) {
    own::have_time();
    cgroup::read_from_root();
    let mut host = ThisHost::default();
    while let Ok(question) = asked.recv() {
        let answer = answer(question, &mut host);
        if answered.send(answer).is_err() {
            return;
        }
    }
}

fn answer(question: Question, host: &mut ThisHost) -> Answer {
    match question {
        Question::Until(until_ns) => Answer::Until(until_ns),
        Question::File { pid, fd, inode } => Answer::File {
            pid,
            inode,
            path: host.path(pid, fd, inode),
        },
        Question::Process {
            pid,
            started_ns,
            cgroup,
            select,
        } => {
            // It has run out of fds, or nobody would know its cgroup already.
            let lineage = cgroup.is_some().then(|| host.lineage(pid)).flatten();
            let cgroup = cgroup.or_else(|| host.cgroup(pid));
            let named = cgroup
                .as_deref()
                .map(|path| host.named(pid, &place::parse(path)));
            let now_ns = clock::since_boot_ns();
            let has_ended = host.has_ended(pid, started_ns, now_ns);
            Answer::Process(Box::new(LookedProcess {
                pid,
                ended_ns: has_ended.then_some(now_ns),
                uid: host.user(pid),
                cgroup: cgroup.map(Text),
                named: named.unwrap_or_default(),
                lineage,
                select: select.wait(),
            }))
        }
    }
}
