//! May the soft limit of a running process be raised, and does that help? Facts in, checks out: each a value with
//! what it rests on. Pure.

use serde::Serialize;

use super::{
    cause::Cause,
    select::{LIMIT, Select},
};
use crate::ground::host::Host;

/// So far, and no further, unless somebody says how far: what is known to serve everywhere. Programs that go over
/// all numbers up to their limit, or keep room for each, have ended at 2^30.
pub const HIGHEST: u64 = 65_536;
/// The kernel's `fs.nr_open` unless somebody has set it (fs/file.c). More than that has to be insisted on.
pub const MOST: u64 = 1 << 20;
/// So many times what is used now.
const ROOM: u64 = 4;
/// The least that is worth a change.
const LEAST: u64 = 4_096;
/// In percent of the limit: a table this full is near it.
const NEAR: u64 = 80;
/// In percent: a cgroup with so much of its memory in use has none for more files.
const FULL: u64 = 90;

/// A soft and a hard limit; `u64::MAX`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What calls fail at.
    pub soft: u64,
    /// What the soft limit can be raised to by the process itself.
    pub hard: u64,
}

/// A process, as it was found and as it was seen for some seconds. Text is the process's own: untrusted.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its program; `None` where that cannot be read.
    pub exe: Option<Vec<u8>>,
    /// Its user.
    pub uid: Option<u32>,
    /// It is a thread of the kernel's own.
    pub is_kernel_thread: bool,
    /// It belongs to another user namespace than fdtrace; `None`: that cannot be read.
    pub is_in_other_namespace: Option<bool>,
    /// fdtrace has the right to set its limits.
    pub may_be_changed: bool,
    /// Its limits now.
    pub limits: Limits,
    /// Fds that it has open; `None` where that cannot be read.
    pub used: Option<u64>,
    /// How many more it has open than some seconds ago.
    pub grown: i64,
    /// How many seconds.
    pub seconds: f64,
    /// Why calls of its have failed in that time.
    pub failures: Vec<Cause>,
    /// Does it use select(2)? `None`: not known.
    pub select: Option<Select>,
    /// Go's compiler has made its program.
    pub is_go: bool,
}

/// What is around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Around {
    /// The host's limits.
    pub host: Host,
    /// fdtrace may raise hard limits (`CAP_SYS_RESOURCE`).
    pub may_raise_hard: bool,
    /// Failures of calls were looked for.
    pub sees_failures: bool,
    /// Memory in use by the process's cgroup, and how much it may use, bytes.
    pub memory: Option<(u64, u64)>,
    /// One of those that are raised together is near its limit.
    pub is_one_near: bool,
    /// Processes of the same program and the same cgroup that are near their limits, and are not raised with it.
    pub others_near: Vec<u32>,
}

/// What a check has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing speaks against it.
    Ok,
    /// To be known before.
    Warning,
    /// Only somebody who insists on it (`--force`) gets it.
    Refused,
    /// Nobody gets it.
    Impossible,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub check: &'static str,
    /// What it has come to.
    pub outcome: Outcome,
    /// What that rests on.
    pub evidence: String,
}

impl Check {
    fn new(check: &'static str, outcome: Outcome, evidence: impl Into<String>) -> Self {
        Self {
            check,
            outcome,
            evidence: evidence.into(),
        }
    }
}

impl Subject {
    /// Is its table nearly full?
    #[must_use]
    pub fn is_near(&self) -> bool {
        let near = self.limits.soft.saturating_mul(NEAR) / 100;
        self.failures.contains(&Cause::RlimitNofile) || self.used.is_some_and(|used| used >= near)
    }

    /// The limits to set: as far as was asked for, or four times what is used; `None` where they are as high already.
    #[must_use]
    pub fn target(&self, asked: Option<u64>, around: &Around) -> Option<Limits> {
        let Limits { soft, hard } = self.limits;
        let wanted = asked.unwrap_or_else(|| {
            let needed = self.used.unwrap_or(0).max(soft);
            let wanted = needed.saturating_mul(ROOM).next_power_of_two();
            let wanted = wanted.clamp(LEAST, HIGHEST);
            // What takes no other right, and no other setting, where that is some room.
            let free = |limit: u64| limit > soft.saturating_add(soft / 4);
            let wanted = if !around.may_raise_hard && free(hard) {
                wanted.min(hard)
            } else {
                wanted
            };
            match around.host.settings.nr_open {
                Some(nr_open) if free(nr_open) => wanted.min(nr_open),
                _ => wanted,
            }
        });
        (wanted > soft).then_some(Limits {
            soft: wanted,
            hard: wanted.max(hard),
        })
    }

    /// All checks of raising its limits to these, in the order in which they are read.
    #[must_use]
    pub fn checks(&self, target: Option<Limits>, around: &Around) -> Vec<Check> {
        let mut checks = vec![
            self.process(),
            self.namespace(),
            self.rights(),
            self.cause(around),
        ];
        let Some(target) = target else {
            checks.push(Check::new(
                "limit",
                Outcome::Impossible,
                format!(
                    "the soft limit is {} already: say how far to raise it with --to",
                    shown(self.limits.soft)
                ),
            ));
            return checks;
        };
        checks.push(self.limit(target, around));
        checks.extend(nr_open(target, around));
        checks.extend(self.file_max(target, around));
        checks.extend(memory(around));
        checks.push(self.select(target));
        checks.extend(self.runtime());
        checks.extend(others(around));
        checks.extend(self.buys(target));
        checks
    }

    fn process(&self) -> Check {
        let name = "process";
        if self.is_kernel_thread {
            return Check::new(name, Outcome::Impossible, "a thread of the kernel's own");
        }
        if self.pid == 1 {
            return Check::new(
                name,
                Outcome::Refused,
                "process 1: what it starts inherits its limits",
            );
        }
        let uid = self.uid.map(|uid| format!(", uid {uid}"));
        let exe = self.exe.as_deref().unwrap_or(b"its program cannot be read");
        let exe = String::from_utf8_lossy(exe);
        Check::new(
            name,
            Outcome::Ok,
            format!("{exe}{}", uid.unwrap_or_default()),
        )
    }

    fn namespace(&self) -> Check {
        let (outcome, evidence) = match self.is_in_other_namespace {
            Some(false) => (Outcome::Ok, "the same user namespace"),
            Some(true) => (
                Outcome::Refused,
                "another user namespace: whoever runs the container decides on its limits",
            ),
            None => (Outcome::Warning, "its user namespace cannot be read"),
        };
        Check::new("userns", outcome, evidence)
    }

    fn rights(&self) -> Check {
        if self.may_be_changed {
            Check::new("rights", Outcome::Ok, "its limits may be set")
        } else {
            Check::new(
                "rights",
                Outcome::Impossible,
                "another user's process: setting its limits takes CAP_SYS_RESOURCE",
            )
        }
    }

    fn cause(&self, around: &Around) -> Check {
        let taken = self.used.map_or_else(
            || format!("limit {}", shown(self.limits.soft)),
            |used| format!("{used} of {} fds open", shown(self.limits.soft)),
        );
        let is_own = self.failures.contains(&Cause::RlimitNofile);
        let (outcome, more) = if is_own {
            (Outcome::Ok, "calls fail at this limit".to_owned())
        } else if let Some(other) = self.failures.first() {
            let other = other.to_string();
            (
                Outcome::Refused,
                format!("calls fail by another limit ({other}), which this does not change"),
            )
        } else if self.is_near() {
            let seen = if around.sees_failures {
                format!("no call has failed in {:.1} s", self.seconds)
            } else {
                "failures of calls cannot be seen".to_owned()
            };
            (Outcome::Ok, seen)
        } else if around.is_one_near {
            (Outcome::Ok, "raised together with the others".to_owned())
        } else if self.used.is_none() {
            (Outcome::Warning, "how full it is cannot be read".to_owned())
        } else {
            (Outcome::Refused, "this limit is not in the way".to_owned())
        };
        Check::new("cause", outcome, format!("{taken}; {more}"))
    }

    fn limit(&self, target: Limits, around: &Around) -> Check {
        let hard = self.limits.hard;
        let raises_hard = target.hard > hard;
        let evidence = if raises_hard {
            format!("raises the hard limit too, which is {}", shown(hard))
        } else {
            format!("the hard limit stays {}", shown(hard))
        };
        if raises_hard && !around.may_raise_hard {
            let evidence = format!(
                "above the hard limit, {}: that takes CAP_SYS_RESOURCE; or --to {}",
                shown(hard),
                shown(hard)
            );
            return Check::new("limit", Outcome::Impossible, evidence);
        }
        if target.soft > MOST {
            let evidence = format!(
                "{} is more than {MOST}: programs that go over all numbers up to their limit hang or run out \
                 of memory",
                target.soft
            );
            return Check::new("limit", Outcome::Refused, evidence);
        }
        Check::new("limit", Outcome::Ok, evidence)
    }

    fn file_max(&self, target: Limits, around: &Around) -> Option<Check> {
        let (files, most) = (around.host.files?, around.host.file_max?);
        let more = target.soft.saturating_sub(self.used.unwrap_or(0));
        let is_enough = files.saturating_add(more) <= most;
        let evidence = format!("{files} of fs.file-max {most} files open on this host");
        Some(if is_enough {
            Check::new("file-max", Outcome::Ok, evidence)
        } else {
            let evidence = format!("{evidence}: not enough for {more} more");
            Check::new("file-max", Outcome::Warning, evidence)
        })
    }

    fn select(&self, target: Limits) -> Check {
        let limit = LIMIT - 1;
        let (outcome, evidence) = match &self.select {
            Some(select @ Select::Called { most }) => {
                let evidence = format!(
                    "calls select(2) for fds up to {}: it aborts or corrupts memory with an fd above {limit}",
                    most.saturating_sub(1)
                );
                if select.forbids(self.limits.soft, target.soft) {
                    (Outcome::Refused, evidence)
                } else if target.soft <= LIMIT {
                    (Outcome::Ok, format!("{evidence}; {} is within", target.soft))
                } else {
                    (Outcome::Warning, evidence)
                }
            }
            Some(Select::Imported { by }) if target.soft > LIMIT => (
                Outcome::Warning,
                format!("{by} imports select(2), which takes no fd above {limit}; no call was seen"),
            ),
            Some(Select::No | Select::Imported { .. }) => (
                Outcome::Ok,
                "no call of select(2) was seen".to_owned(),
            ),
            None => (
                Outcome::Warning,
                "it is not known whether it uses select(2): no call was seen, and its imports cannot be read"
                    .to_owned(),
            ),
        };
        Check::new("select", outcome, evidence)
    }

    /// Go raises the soft limit at the start, and gives commands that the program starts the one that it found then
    /// (`os/rlimit.go`, since 1.19; `syscall/rlimit.go`, since 1.21).
    fn runtime(&self) -> Option<Check> {
        self.is_go.then(|| {
            Check::new(
                "runtime",
                Outcome::Warning,
                "a Go program: commands that it starts may get the limit that it was started with, not this one",
            )
        })
    }

    fn buys(&self, target: Limits) -> Option<Check> {
        let used = self.used?;
        let grown = u32::try_from(self.grown).unwrap_or(0);
        if grown == 0 {
            let evidence = format!("it did not grow in {:.1} s", self.seconds);
            return Some(Check::new("buys", Outcome::Ok, evidence));
        }
        let left = u32::try_from(target.soft.saturating_sub(used)).unwrap_or(u32::MAX);
        let seconds = f64::from(left) * self.seconds / f64::from(grown);
        let evidence = format!(
            "it grew by {grown} in {:.1} s: at that rate {} are open in {}",
            self.seconds,
            target.soft,
            duration(seconds)
        );
        Some(Check::new("buys", Outcome::Ok, evidence))
    }
}

fn others(around: &Around) -> Option<Check> {
    let others = &around.others_near;
    let (first, count) = (others.first()?, others.len());
    let evidence = if count == 1 {
        format!("process {first} of the same program is near its limit as well: --tree")
    } else {
        format!(
            "{count} other processes of the same program ({first}, …) are near their limits: --tree"
        )
    };
    Some(Check::new("others", Outcome::Warning, evidence))
}

fn nr_open(target: Limits, around: &Around) -> Option<Check> {
    let nr_open = around.host.settings.nr_open?;
    Some(if target.hard > nr_open {
        let needed = target.hard;
        let evidence = format!(
            "fs.nr_open is {nr_open}, and the kernel sets no hard limit above it: sysctl -w fs.nr_open={needed} \
             first, or --to {nr_open}"
        );
        let evidence = if target.hard == u64::MAX {
            format!(
                "fs.nr_open is {nr_open}, and the hard limit is unlimited: prlimit(2) refuses to set any"
            )
        } else {
            evidence
        };
        Check::new("nr_open", Outcome::Impossible, evidence)
    } else {
        Check::new("nr_open", Outcome::Ok, format!("fs.nr_open is {nr_open}"))
    })
}

fn memory(around: &Around) -> Option<Check> {
    let (used, most) = around.memory?;
    let percent = used.saturating_mul(100).checked_div(most)?;
    let outcome = if percent >= FULL {
        Outcome::Warning
    } else {
        Outcome::Ok
    };
    let evidence = format!(
        "{} of {} MiB of its cgroup in use; each file takes 256 bytes and more",
        used >> 20,
        most >> 20
    );
    Some(Check::new("memory", outcome, evidence))
}

/// A limit, as people write it.
#[must_use]
pub fn shown(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.0} h", seconds / 3_600.0)
    }
}

/// The worst of some checks.
#[must_use]
pub fn worst(checks: &[Check]) -> Outcome {
    let rank = |outcome: Outcome| match outcome {
        Outcome::Ok => 0,
        Outcome::Warning => 1,
        Outcome::Refused => 2,
        Outcome::Impossible => 3,
    };
    let outcomes = checks.iter().map(|check| check.outcome);
    outcomes.max_by_key(|it| rank(*it)).unwrap_or(Outcome::Ok)
}

#[cfg(test)]
mod tests;
