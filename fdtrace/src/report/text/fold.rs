//! Equal processes that run out within a second: the first is told at once and in full, the others in one report
//! with their number. A service with fifty workers is one incident. JSON has an object for each.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Write},
};

use jiff::{SignedDuration, Timestamp};

use super::{Columns, near_limit::NEAR_LIMIT};
use crate::{
    diagnose::{
        cause::Cause,
        diagnosis::Diagnosis,
        remedy::{Remedy, When},
        verdict,
    },
    ground::kind::Kind,
    report::{
        block::Block,
        fact::{Exhausted, Fact, NearLimit},
        page::{Page, STRONG},
        words::limit,
    },
};

/// How long after the first the others are waited for.
const WINDOW: SignedDuration = SignedDuration::from_secs(1);
/// Kinds of equal processes that are told apart at a time; of further ones each is told.
const GROUPS: usize = 1024;
/// Processes of a group that are told apart: more than any host runs of one service.
const PROCESSES: usize = 1 << 16;
/// Pids that are named.
const NAMED: usize = 8;
/// Pids that one line to type may have.
const TYPED: usize = 64;

/// What makes processes equal to people: who they are, what has failed, what is wrong, where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Likeness {
    comm: Vec<u8>,
    exe: Option<Vec<u8>>,
    cgroup: Option<Vec<u8>>,
    call: String,
    errno: &'static str,
    cause: Cause,
    soft: u64,
    verdict: Option<verdict::Kind>,
    largest: Option<(Kind, Option<Vec<u8>>)>,
    opener: Option<String>,
    /// Of reports that say no more than that it goes on.
    is_news: bool,
}

/// Those of a second that are equal, but for the first, which has been told.
#[derive(Debug)]
pub(super) struct Others {
    like: Likeness,
    first: u32,
    /// When the second is over.
    until: Timestamp,
    pids: BTreeSet<u32>,
    repeats: u64,
    /// What to type for each, with `$pid` in place of the pid; `None` where it is not the same for all.
    now: Option<String>,
}

/// What is being folded.
#[derive(Debug, Default)]
pub(super) struct Fold {
    groups: HashMap<Likeness, Others>,
}

impl Fold {
    /// Is this one like another process's of the last second, which has been told? Then it is told with the others
    /// by [`Fold::due`].
    pub(super) fn take(&mut self, fact: &Fact, now: Timestamp) -> bool {
        let report = match fact {
            Fact::Exhausted(exhausted) => Report::from(&**exhausted),
            Fact::NearLimit(near) => Report::from(&**near),
            _ => return false,
        };
        if let Some(others) = self.groups.get_mut(&report.like) {
            return others.take(&report);
        }
        if self.groups.len() < GROUPS {
            self.groups
                .insert(report.like.clone(), Others::after(report, now));
        }
        false
    }

    /// When there may be something to tell.
    #[must_use]
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.groups.values().map(|others| others.until).min()
    }

    /// The others of the seconds that are over, the earliest first.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Others> {
        self.take_if(|others| others.until <= now)
    }

    /// All that there are at the end, whose second ends with it.
    pub(super) fn finish(&mut self, end: Timestamp) -> Vec<Others> {
        let mut all = self.take_if(|_| true);
        for others in &mut all {
            others.until = others.until.min(end);
        }
        all
    }

    fn take_if(&mut self, is_over: impl Fn(&Others) -> bool) -> Vec<Others> {
        let over = self.groups.extract_if(|_, others| is_over(others));
        let mut over: Vec<_> = over.map(|(_, others)| others).collect();
        over.retain(|others| !others.pids.is_empty());
        over.sort_by_key(|others| (others.until, others.first));
        over
    }
}

impl Others {
    fn after(first: Report, now: Timestamp) -> Self {
        Self {
            now: first.now(),
            like: first.like,
            first: first.pid,
            until: now.saturating_add(WINDOW).unwrap_or(Timestamp::MAX),
            pids: BTreeSet::new(),
            repeats: 0,
        }
    }

    /// A process that is told already is told again for itself.
    fn take(&mut self, report: &Report) -> bool {
        if report.pid == self.first || self.pids.len() >= PROCESSES {
            return false;
        }
        if !self.pids.insert(report.pid) {
            return false;
        }
        self.repeats = self.repeats.saturating_add(report.repeats);
        self.now.take_if(|now| report.now().as_ref() != Some(now));
        true
    }

    /// Writes a report of all of them.
    pub(super) fn write(&self, output: &mut impl Write, page: Page) -> io::Result<()> {
        let like = &self.like;
        let columns = Columns {
            time: self.until,
            pid: format!("+{}", self.pids.len()),
            comm: &like.comm,
            call: &like.call,
            errno: like.errno,
            used: "-".to_owned(),
            limit: limit(like.soft),
            repeats: self.repeats.to_string(),
            is_full: false,
        };
        columns.write(output, page)?;
        if !like.is_news {
            return Ok(());
        }
        let mut block = Block::default();
        block.say("same", self.who());
        if let Some(now) = self.now.as_ref().filter(|_| self.pids.len() <= TYPED) {
            let pids: Vec<_> = self.pids.iter().map(ToString::to_string).collect();
            let each = match &pids[..] {
                [pid] => now.replace("$pid", pid),
                _ => format!("for pid in {}; do {now}; done", pids.join(" ")),
            };
            block.command("now", STRONG, each);
        }
        block.write(output, page)
    }

    fn who(&self) -> String {
        let pids = self.pids.iter().take(NAMED);
        let mut pids: Vec<_> = pids.map(ToString::to_string).collect();
        let more = self.pids.len().saturating_sub(NAMED);
        pids.extend((more > 0).then(|| format!("{more} more")));
        let process = if self.pids.len() == 1 {
            "process"
        } else {
            "processes"
        };
        format!(
            "{} {process} like {} above: {}",
            self.pids.len(),
            self.first,
            pids.join(", ")
        )
    }
}

/// One report, as far as it matters here.
struct Report {
    pid: u32,
    repeats: u64,
    like: Likeness,
    remedies: Vec<Remedy>,
}

impl Report {
    /// What to type at once, with `$pid` in place of the pid.
    fn now(&self) -> Option<String> {
        let is_now = |remedy: &&Remedy| remedy.when == When::Now;
        let remedy = self.remedies.iter().find(is_now)?;
        let command = remedy.command.as_ref()?;
        let pid = format!("--pid {} ", self.pid);
        command
            .contains(&pid)
            .then(|| command.replace(&pid, "--pid $pid "))
    }
}

impl From<&Exhausted> for Report {
    fn from(exhausted: &Exhausted) -> Self {
        let (verdict, largest) = judged(exhausted.diagnosis.as_ref());
        let is_news = exhausted.is_news;
        Self {
            pid: exhausted.pid,
            repeats: exhausted.repeats,
            like: Likeness {
                comm: exhausted.comm.clone(),
                exe: exhausted.exe.clone(),
                cgroup: Some(exhausted.cgroup.clone()),
                call: exhausted.call.clone(),
                errno: exhausted.errno,
                cause: exhausted.cause,
                soft: exhausted.soft,
                verdict,
                largest,
                opener: exhausted.openers.line(),
                is_news,
            },
            remedies: if is_news {
                exhausted.remedies()
            } else {
                Vec::new()
            },
        }
    }
}

impl From<&NearLimit> for Report {
    fn from(near: &NearLimit) -> Self {
        let (verdict, largest) = judged(near.diagnosis.as_ref());
        Self {
            pid: near.pid,
            repeats: 0,
            like: Likeness {
                comm: near.comm.clone(),
                exe: near.exe.clone(),
                cgroup: near.cgroup.clone(),
                call: NEAR_LIMIT.to_owned(),
                errno: "-",
                cause: Cause::RlimitNofile,
                soft: near.soft,
                verdict,
                largest,
                opener: near.openers.line(),
                is_news: true,
            },
            remedies: near.remedies(),
        }
    }
}

type Largest = Option<(Kind, Option<Vec<u8>>)>;

fn judged(diagnosis: Option<&Diagnosis>) -> (Option<verdict::Kind>, Largest) {
    let Some(diagnosis) = diagnosis else {
        return (None, None);
    };
    let verdict = diagnosis.verdict.as_ref().map(|verdict| verdict.kind);
    let largest = diagnosis.holders.first();
    (
        verdict,
        largest.map(|holder| (holder.kind, holder.target.clone())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fact::samples;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000_000 + milliseconds).unwrap()
    }

    fn failure(pid: u32, change: impl FnOnce(&mut Exhausted)) -> Fact {
        let mut exhausted = Exhausted {
            pid,
            tid: pid,
            ..samples::exhausted()
        };
        change(&mut exhausted);
        Fact::Exhausted(Box::new(exhausted))
    }

    fn written(others: &[Others]) -> String {
        let mut output = Vec::new();
        for others in others {
            others.write(&mut output, Page::PLAIN).unwrap();
        }
        let text = String::from_utf8(output).unwrap();
        // The time of day stands in the zone of the machine.
        text.lines()
            .map(|line| {
                line.get(8..)
                    .filter(|_| line.contains('+'))
                    .unwrap_or(line)
                    .to_owned()
                    + "\n"
            })
            .collect()
    }

    #[test]
    fn fifty_equal_processes_are_two_reports() {
        let mut fold = Fold::default();
        let told: Vec<_> = (100..150)
            .filter(|pid| !fold.take(&failure(*pid, |_| ()), at(i64::from(*pid))))
            .collect();
        assert_eq!(told, [100]);
        assert_eq!(fold.next(), Some(at(1_100)));
        assert!(fold.due(at(1_099)).is_empty());
        let text = written(&fold.due(at(1_100)));
        let pids: Vec<_> = (101..150).map(|pid: u32| pid.to_string()).collect();
        let expected = format!(
            "     +49 python3         openat         EMFILE       -    1024        0
  same     49 processes like 100 above: 101, 102, 103, 104, 105, 106, 107, 108, 41 more
  now      for pid in {}; do prlimit --pid $pid --nofile=4096:; done
",
            pids.join(" ")
        );
        assert_eq!(text, expected);
        assert!(fold.next().is_none());
        assert!(
            !fold.take(&failure(101, |_| ()), at(1_101)),
            "another second"
        );
    }

    #[test]
    fn what_differs_in_anything_that_matters_is_told() {
        let differences: [fn(&mut Exhausted); 7] = [
            |other| other.comm = b"nginx".to_vec(),
            |other| other.exe = Some(b"/opt/python".to_vec()),
            |other| other.cgroup = b"/system.slice/other.service".to_vec(),
            |other| other.call = "socket".to_owned(),
            |other| other.cause = Cause::FileMax,
            |other| other.soft = 2048,
            |other| {
                other.diagnosis = Some(Diagnosis {
                    verdict: Some(verdict::Verdict {
                        kind: verdict::Kind::Leak,
                        growth_per_min: None,
                        evidence: Vec::new(),
                    }),
                    ..Diagnosis::default()
                });
            },
        ];
        for (index, change) in differences.into_iter().enumerate() {
            let mut fold = Fold::default();
            assert!(!fold.take(&failure(1, |_| ()), at(0)));
            assert!(!fold.take(&failure(2, change), at(1)), "{index}");
            assert!(fold.take(&failure(3, |_| ()), at(2)), "{index}");
        }
    }

    #[test]
    fn the_same_process_is_told_again() {
        let mut fold = Fold::default();
        let mut take = |pid| fold.take(&failure(pid, |_| ()), at(0));
        assert_eq!([1, 1, 2, 2].map(&mut take), [false, false, true, false]);
    }

    #[test]
    fn reports_that_it_goes_on_have_nothing_to_type_and_add_up() {
        let mut fold = Fold::default();
        for pid in 1..=3 {
            let going_on = failure(pid, |exhausted| {
                (exhausted.is_news, exhausted.repeats) = (false, 1_000);
            });
            assert_eq!(fold.take(&going_on, at(0)), pid > 1);
        }
        assert_eq!(
            written(&fold.due(at(1_000))),
            "      +2 python3         openat         EMFILE       -    1024     2000\n"
        );
    }

    #[test]
    fn what_to_type_is_said_only_where_it_is_the_same_for_all() {
        let mut fold = Fold::default();
        assert!(!fold.take(&failure(1, |_| ()), at(0)));
        assert!(fold.take(&failure(2, |other| other.hard = 1024), at(0)));
        assert!(!written(&fold.due(at(1_000))).contains("now"));
    }
}
