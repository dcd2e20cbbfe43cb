//! The facts that a stream tells.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{event::FdEvent, failing::FailedIn, openers::Openers, outstanding::Outstanding};
use crate::{
    diagnose::{
        cause::{self, Cause, Silent},
        diagnosis::Diagnosis,
        ends::Ends,
        near_limit,
        origin::{Nofile, Whose},
        remedy::{self, Remedy, Situation},
        select::Select,
        verdict::Kind,
    },
    engine::storms::Report,
    enrich::{
        self,
        lookup::{Looked, Lookup},
        names::Named,
        select::AskedSelect,
    },
    ground::{
        call,
        host::Host,
        place::{self, Place as Belonging},
        task::Task,
    },
    probe::{backend::Backend, runs::ProgramRuns},
    stream::{clock::Clock, timeline::Timeline},
};

pub use self::shared::Shared;

/// Anything a stream says.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Everything is set up; what comes from here on is seen.
    Start,
    /// The same, before changes of slots.
    StartTrace,
    /// A slot has changed.
    Event(Box<FdEvent>),
    /// A table ran out, or a call failed as if it had.
    Exhausted(Box<Exhausted>),
    /// What was outstanding at one moment.
    Outstanding(Box<Outstanding>),
    /// A table has passed the mark below its limit.
    NearLimit(Box<NearLimit>),
    /// Something was not seen.
    Loss(Loss),
    /// Something that a reader of stderr should know.
    Notice(String),
    /// Nothing to write: what a recording has told of processes, for the facts behind it.
    Looked(Looked),
    /// The stream has ended.
    Summary(Summary),
}

impl Fact {
    /// Looks up what no record tells, and waits for what another thread finds out. Not for the loop that
    /// reads records. What goes with the process comes first.
    pub fn complete(&mut self, lookup: &mut dyn Lookup) {
        match self {
            Self::Event(event) => event.complete(lookup),
            Self::NearLimit(near) => near.complete(lookup),
            Self::Outstanding(outstanding) => outstanding.complete(lookup),
            Self::Exhausted(exhausted) => exhausted.complete(lookup),
            _ => {}
        }
    }
}

/// One exhaustion. Text is as the traced process wrote it: hostile.
#[derive(Clone, Debug, PartialEq)]
pub struct Exhausted {
    /// When: see [`Report::time_ns`].
    pub time: Timestamp,
    /// The same, nanoseconds since boot.
    pub time_ns: u64,
    /// When the failure was that it shows.
    pub failure_time: Timestamp,
    /// Which limit was hit.
    pub cause: Cause,
    /// How it was kept from the process.
    pub silent: Option<Silent>,
    /// `EMFILE` or `ENFILE`: what the kernel ran into, whatever the process was told.
    pub errno: &'static str,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// When the process was started, nanoseconds since boot; 0: not known.
    pub started_ns: u64,
    /// It has ended since.
    pub has_ended: bool,
    /// The program.
    pub exe: Option<Vec<u8>>,
    /// The thread's user.
    pub uid: u32,
    /// The cgroup v2 path.
    pub cgroup: Vec<u8>,
    /// The call that failed.
    pub call: String,
    /// Further failures like this one that it stands for.
    pub repeats: u64,
    /// Soft `RLIMIT_NOFILE`, and the limit that the kernel applied.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// Numbers taken.
    pub used: Option<u32>,
    /// Files open.
    pub open: Option<u32>,
    /// Who holds them and why, where that is known.
    pub diagnosis: Option<Diagnosis>,
    /// Which lines of code have opened them.
    pub openers: Openers,
    /// The stack of the call that has failed.
    pub failed_in: FailedIn,
    /// The diagnosis says something that the report before did not, or there was none before.
    pub is_news: bool,
    /// The host's limits, as they were recorded; live, [`Exhausted::complete`] looks them up.
    pub host: Option<Host>,
    /// What the container and the pod are called, where this host tells.
    pub named: Named,
    /// Whose limit it is, where that is what was hit; `None`: nobody has looked.
    pub whose: Option<Whose>,
    /// Who has the other ends of the pipes and unix sockets that fill the table.
    pub ends: Ends,
    /// Of a limit that processes share: who holds most of it; `None` where it is none.
    pub shared: Option<Shared>,
    /// Whether the process uses select(2), as it is found out.
    pub asked_select: AskedSelect,
    /// The answer.
    pub select: Option<Select>,
}

impl Exhausted {
    /// What a report says by itself; which limit was hit is for whoever has made it of the failure.
    pub fn new<T>(report: Report<T>, cause: Cause, clock: Clock, times: &mut Timeline) -> Self {
        let Report { alarm, repeats, .. } = report;
        Self {
            time: times.at(clock, report.time_ns),
            time_ns: report.time_ns,
            failure_time: times.time_of(clock, alarm.time_ns),
            cause,
            silent: cause::silent(&alarm),
            errno: if alarm.key.errno == 23 {
                "ENFILE"
            } else {
                "EMFILE"
            },
            pid: alarm.key.tgid,
            tid: alarm.tid,
            comm: alarm.comm,
            started_ns: alarm.key.started_ns,
            has_ended: false,
            exe: alarm.exe,
            uid: alarm.uid,
            cgroup: alarm.cgroup,
            call: call::name(alarm.key.call).into_owned(),
            repeats,
            soft: alarm.soft,
            hard: alarm.hard,
            used: alarm.used,
            open: alarm.open,
            diagnosis: None,
            openers: Openers::default(),
            failed_in: FailedIn::default(),
            is_news: false,
            host: None,
            named: Named::default(),
            whose: None,
            ends: Ends::default(),
            shared: None,
            asked_select: AskedSelect::default(),
            select: None,
        }
    }
}

impl Exhausted {
    /// See [`Fact::complete`].
    pub fn complete(&mut self, lookup: &mut dyn Lookup) {
        if self.cause == Cause::RlimitNofile {
            let own = Nofile {
                soft: self.soft,
                hard: self.hard,
            };
            self.whose = lookup.whose(self.pid, own, &self.place());
        }
        if let Some(diagnosis) = &mut self.diagnosis {
            enrich::holders::find_paths(&mut diagnosis.holders, self.pid, lookup);
        }
        self.host = lookup.host().or(self.host);
        self.choose_shared(lookup);
        self.named = lookup.named(self.pid, &self.place());
        self.has_ended |= lookup.has_ended(self.pid, self.started_ns, self.time_ns);
        self.select = self.asked_select.wait().or_else(|| lookup.select(self.pid));
        self.openers.resolve();
        self.failed_in.resolve();
    }

    /// Fds open at the failure that none of the holders stands for; `None` where nobody has counted them, or
    /// nothing is known of the table.
    #[must_use]
    pub fn unlisted(&self) -> Option<u32> {
        let diagnosis = self.diagnosis.as_ref()?;
        Some(diagnosis.unlisted(self.open.or(self.used)?))
    }

    /// Where the process belongs.
    #[must_use]
    pub fn place(&self) -> Belonging {
        place::parse(&self.cgroup)
    }

    /// What to type, now and for good.
    #[must_use]
    pub fn remedies(&self) -> Vec<Remedy> {
        let diagnosis = self.diagnosis.as_ref();
        let verdict = diagnosis.and_then(|diagnosis| diagnosis.verdict.as_ref());
        remedy::remedies(&Situation {
            cause: self.cause,
            pid: self.pid,
            uid: self.uid,
            exe: self.exe.as_deref(),
            soft: self.soft,
            hard: self.hard,
            used: self.used,
            host: self.host.unwrap_or_default(),
            place: &self.place(),
            verdict: verdict.map_or(Kind::Unknown, |verdict| verdict.kind),
            growth_per_min: verdict.and_then(|verdict| verdict.growth_per_min),
            has_ended: self.has_ended,
            line: self.openers.line().as_deref(),
            whose: self.whose.as_ref(),
            is_go: self.openers.is_go(),
            is_exhausted: true,
            are_deleted: diagnosis.is_some_and(Diagnosis::are_deleted),
            select: self.select.as_ref(),
        })
    }
}

/// One table that nears its limit. Text is as the traced process wrote it: hostile.
#[derive(Clone, Debug, PartialEq)]
pub struct NearLimit {
    /// When.
    pub time: Timestamp,
    /// The process.
    pub pid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// The program, where it is known.
    pub exe: Option<Vec<u8>>,
    /// Its user, where it is known.
    pub uid: Option<u32>,
    /// The cgroup v2 path, where it is known.
    pub cgroup: Option<Vec<u8>>,
    /// Numbers taken.
    pub used: Option<u32>,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// Numbers taken, in percent of the soft limit.
    pub percent: Option<u64>,
    /// Who holds them and why, where that is known.
    pub diagnosis: Option<Diagnosis>,
    /// Which lines of code have opened them.
    pub openers: Openers,
    /// The host's limits, as they were recorded; live, [`NearLimit::complete`] looks them up.
    pub host: Option<Host>,
    /// What the container and the pod are called, where this host tells.
    pub named: Named,
    /// Whose limit it is, where that is what was hit; `None`: nobody has looked.
    pub whose: Option<Whose>,
    /// Who has the other ends of the pipes and unix sockets that fill the table.
    pub ends: Ends,
    /// Whether the process uses select(2), as it is found out.
    pub asked_select: AskedSelect,
    /// The answer.
    pub select: Option<Select>,
}

impl NearLimit {
    /// A table as the kernel counts it.
    #[must_use]
    pub fn new(task: Task, diagnosis: Option<Diagnosis>, time: Timestamp) -> Self {
        Self {
            time,
            pid: task.tgid,
            tid: task.tid,
            exe: None,
            uid: None,
            cgroup: None,
            used: task.used,
            soft: task.soft,
            hard: task.hard,
            percent: near_limit::percent(&task),
            comm: task.comm,
            diagnosis,
            openers: Openers::default(),
            host: None,
            named: Named::default(),
            whose: None,
            ends: Ends::default(),
            asked_select: AskedSelect::default(),
            select: None,
        }
    }

    /// Time until the table is full, if it goes on growing as it does; seconds.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        let diagnosis = self.diagnosis.as_ref()?;
        diagnosis.seconds_until(u64::from(self.used?), self.soft)
    }

    /// See [`Fact::complete`].
    pub fn complete(&mut self, lookup: &mut dyn Lookup) {
        if let Some(diagnosis) = &mut self.diagnosis {
            enrich::holders::find_paths(&mut diagnosis.holders, self.pid, lookup);
        }
        self.uid = lookup.user(self.pid);
        self.cgroup = lookup.cgroup(self.pid);
        self.exe = lookup.exe(self.pid);
        let own = Nofile {
            soft: self.soft,
            hard: self.hard,
        };
        self.whose = lookup.whose(self.pid, own, &self.place());
        self.host = lookup.host().or(self.host);
        self.named = lookup.named(self.pid, &self.place());
        self.select = self.asked_select.wait().or_else(|| lookup.select(self.pid));
        self.openers.resolve();
    }

    /// Where the process belongs, as far as it is known.
    #[must_use]
    pub fn place(&self) -> Belonging {
        place::parse(self.cgroup.as_deref().unwrap_or_default())
    }

    /// What to type before it runs out, now and for good.
    #[must_use]
    pub fn remedies(&self) -> Vec<Remedy> {
        let verdict = self.diagnosis.as_ref();
        let verdict = verdict.and_then(|diagnosis| diagnosis.verdict.as_ref());
        remedy::remedies(&Situation {
            cause: Cause::RlimitNofile,
            pid: self.pid,
            uid: self.uid.unwrap_or_default(),
            exe: self.exe.as_deref(),
            soft: self.soft,
            hard: self.hard,
            used: self.used,
            host: self.host.unwrap_or_default(),
            place: &self.place(),
            verdict: verdict.map_or(Kind::Unknown, |verdict| verdict.kind),
            growth_per_min: verdict.and_then(|verdict| verdict.growth_per_min),
            has_ended: false,
            line: self.openers.line().as_deref(),
            whose: self.whose.as_ref(),
            is_go: self.openers.is_go(),
            is_exhausted: false,
            are_deleted: self.diagnosis.as_ref().is_some_and(Diagnosis::are_deleted),
            select: self.select.as_ref(),
        })
    }
}

/// Where something can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Records that found the ring full.
    Ring,
    /// Failures of a kind for which the kernel's map had no room.
    Storms,
    /// Children that could not be followed.
    Follow,
    /// Calls for which the kernel did not enter a program, because it was running already.
    Skipped,
    /// Records that do not fit what the ones before them have said.
    Model,
    /// Changes of tables that were not asked for, because there were more than could be read.
    Shed,
    /// Stacks of those who open fds, because there were more than are taken.
    Stacks,
    /// Lines that stdout did not take in time.
    Output,
}

/// Something that was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was noticed.
    pub time: Timestamp,
    /// Where it was lost.
    pub place: Place,
    /// How many.
    pub count: u64,
    /// Slots of the model put right since the start.
    pub repaired: u64,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// When.
    pub time: Timestamp,
    /// What ran.
    pub backend: Backend,
    /// For how long.
    pub duration_s: f64,
    /// Records read.
    pub records: u64,
    /// Records, failures and lines lost.
    pub lost: u64,
    /// Slots of the model put right.
    pub repaired: u64,
    /// Exhaustion reports made.
    pub exhausted: u64,
    /// Failures that they stand for.
    pub failures: u64,
    /// What fdtrace's programs in the kernel have done; `None`: nobody has counted.
    pub programs: Option<Vec<ProgramRuns>>,
}

#[cfg(test)]
pub(crate) mod samples;
mod shared;
