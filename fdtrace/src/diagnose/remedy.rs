//! What to type against an exhaustion: now, for good, and in the code. Pure; nothing of it is ever run.
//!
//! A command is complete and correctly quoted, or it is not given: what cannot be typed as it stands is told
//! in words. Neither holds a character that is not printable ASCII.

mod lasting;
mod limit;
mod select;
mod shell;
mod sysctl;
mod whose;

use serde::Serialize;

use self::{limit::Raise, sysctl::Cost};
use super::{
    cause::{Cause, TABLE_SLOTS},
    origin::Whose,
    programs::{self, Program},
    select::Select,
    verdict::Kind,
};
use crate::ground::{host::Host, place::Place};

/// When a remedy works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once, for the process as it runs.
    Now,
    /// From the next start on.
    Permanent,
    /// When the program has been changed.
    Code,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// When it works.
    pub when: When,
    /// What to type as root, for sh; `None` where there is no command for it.
    pub command: Option<String>,
    /// What it does, or what to do.
    #[serde(rename = "why")]
    pub text: String,
    /// Of a higher limit: the time that it buys, as "3 min 20 s", or that it buys none. `None`: not known, or not what it
    /// is about.
    pub buys: Option<String>,
    /// What may go wrong with it, to be known before it is typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Remedy {
    fn command(when: When, command: String, text: impl Into<String>) -> Self {
        Self {
            when,
            command: Some(command),
            text: text.into(),
            buys: None,
            warning: None,
        }
    }

    fn words(when: When, text: impl Into<String>) -> Self {
        Self {
            when,
            command: None,
            text: text.into(),
            buys: None,
            warning: None,
        }
    }
}

/// What is known of a failure.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The limit.
    pub cause: Cause,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its program; hostile.
    pub exe: Option<&'a [u8]>,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// Numbers taken.
    pub used: Option<u32>,
    /// The host's limits.
    pub host: Host,
    /// Where it belongs.
    pub place: &'a Place,
    /// What has filled the table.
    pub verdict: Kind,
    /// Fds more a minute.
    pub growth_per_min: Option<f64>,
    /// The process has ended: nothing that is done to it as it runs helps any more.
    pub has_ended: bool,
    /// Where in the program they come from; hostile.
    pub line: Option<&'a str>,
    /// Whose limit it is, where somebody has looked.
    pub whose: Option<&'a Whose>,
    /// The program is one in Go.
    pub is_go: bool,
    /// It has run out; else it is near its limit.
    pub is_exhausted: bool,
    /// What fills the table are files that have been deleted, mostly.
    pub are_deleted: bool,
    /// Does the program use select(2)? `None`: not known.
    pub select: Option<&'a Select>,
}

impl Situation<'_> {
    /// The program, where its name cannot do harm.
    fn program(&self) -> String {
        let exe = self.exe.and_then(|exe| std::str::from_utf8(exe).ok());
        exe.and_then(harmless).unwrap_or("the program").to_owned()
    }

    /// What is known of it.
    fn known_program(&self) -> Option<&'static Program> {
        programs::program(self.exe, self.is_go)
    }
}

/// Longest text from elsewhere that is put into words.
const TEXT_MAX: usize = 200;

/// Text from elsewhere, unless it holds anything but printable ASCII, or is endless.
fn harmless(text: &str) -> Option<&str> {
    let is_harmless = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    (!text.is_empty() && text.len() <= TEXT_MAX && text.bytes().all(is_harmless)).then_some(text)
}

/// What there is to do, the most useful first.
#[must_use]
pub fn remedies(situation: &Situation) -> Vec<Remedy> {
    let settings = situation.host.settings;
    match situation.cause {
        Cause::RlimitNofile => nofile(situation),
        Cause::NrOpen => sysctl::nr_open(situation),
        Cause::FileMax => sysctl::file_max(situation),
        Cause::UnixSockets => sysctl::unix_sockets(situation),
        Cause::TableSize => vec![Remedy::words(
            When::Code,
            format!(
                "have the program use smaller numbers: no fd table holds more than {TABLE_SLOTS}, whatever the \
                 limits are",
            ),
        )],
        Cause::InotifyInstances => {
            let current = settings.inotify_instances;
            sysctl::of_user("fs.inotify.max_user_instances", current, Cost::Watches)
        }
        Cause::FanotifyGroups => {
            let current = settings.fanotify_groups;
            sysctl::of_user("fs.fanotify.max_user_groups", current, Cost::Watches)
        }
        Cause::PipePages => {
            sysctl::of_user("fs.pipe-user-pages-hard", settings.pipe_pages, Cost::Pages)
        }
        Cause::MqueueBytes => mqueue(situation),
        Cause::DupfdMinimum => vec![Remedy::words(
            When::Code,
            "look at the number that the program gives F_DUPFD: all from there up to the limit are taken",
        )],
        Cause::IoUringFiles => vec![Remedy::words(
            When::Code,
            "look at the files that the program registers with its ring: more than its soft RLIMIT_NOFILE, or \
             than a ring takes; in a completion, all places of the ring's own table are taken",
        )],
        Cause::FileServer => vec![Remedy::words(
            When::Now,
            "look at the server of the file system (the FUSE daemon, the CIFS server): it has run out of \
             fds, not this process",
        )],
        Cause::Other => vec![Remedy::words(
            When::Now,
            "look at the call: it uses this errno for something that is no limit on fds",
        )],
    }
}

/// The process's own limit.
fn nofile(situation: &Situation) -> Vec<Remedy> {
    let raise = Raise::of(situation);
    let mut remedies = in_code(situation);
    remedies.extend(select::instead(situation));
    match &raise {
        Some(raise) => {
            let first = remedies.len();
            let now = (!situation.has_ended).then(|| whose::now(*raise, situation));
            remedies.extend(now);
            remedies.extend(raise.settings_for_good());
            remedies.extend(whose::for_good(*raise, situation));
            select::warn(&mut remedies[first..], raise.soft, situation);
        }
        None if select::is_in_the_way(situation) => {}
        None => remedies.push(Remedy::words(
            When::Now,
            "the limit is as high as any kernel takes: fewer fds must do",
        )),
    }
    if situation.verdict == Kind::Unknown && !situation.has_ended {
        remedies.push(Remedy::command(
            When::Now,
            format!("fdtrace ls -p {}", situation.pid),
            "says whether a higher limit is enough: run it twice; many of the same, more each time, is a leak",
        ));
    }
    // What is known of a program says how it does that.
    let is_told = situation.known_program().is_some() || select::is_in_the_way(situation);
    if situation.soft < situation.hard && !is_told {
        remedies.push(Remedy::words(
            When::Code,
            format!(
                "the program may raise its soft limit itself, with setrlimit, up to the hard one of {}; not \
                 if it uses select, which takes no fd above 1023",
                limit::shown(situation.hard)
            ),
        ));
    }
    remedies
}

/// What comes before any limit.
fn in_code(situation: &Situation) -> Vec<Remedy> {
    let line = situation.line.and_then(harmless);
    let at = line.map(|line| format!(", at {line}")).unwrap_or_default();
    let text = match situation.verdict {
        Kind::Leak if situation.are_deleted => format!(
            "close files that are deleted{at}: they take fds and space for as long as they are open. Whoever \
             rotates its logs has to have it open them anew, as its manual says (often by SIGHUP)"
        ),
        Kind::Leak => {
            format!("close what is opened and not closed{at}: a higher limit only buys time")
        }
        Kind::Inherited => format!(
            "whoever starts {} leaves it fds open{at}: open them with O_CLOEXEC there, or close them before \
             exec (close_range)",
            situation.program()
        ),
        Kind::Saturation | Kind::Burst | Kind::Unknown => return Vec::new(),
    };
    vec![Remedy::words(When::Code, text)]
}

/// `RLIMIT_MSGQUEUE`, of which no record tells the value: only no limit is surely above it.
fn mqueue(situation: &Situation) -> Vec<Remedy> {
    let raise = || {
        Remedy::command(
            When::Now,
            format!("prlimit --pid {} --msgqueue=unlimited", situation.pid),
            "the bytes of all message queues of the user count: `ls -l /dev/mqueue` shows them, also those that \
             nobody needs any more (where it is mounted)",
        )
    };
    let mut remedies = Vec::new();
    remedies.extend((!situation.has_ended).then(raise));
    remedies.extend(lasting::remedies(&lasting::Limit::MSGQUEUE, situation));
    remedies
}

#[cfg(test)]
mod tests;
