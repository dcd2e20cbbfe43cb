//! Whose limit it is: who has given a process its `RLIMIT_NOFILE`. Pure.
//!
//! No record of the kernel's says who called setrlimit. But children inherit limits, so that whoever has others than
//! its parent has been given them: by itself, or by its parent before exec. What lies above the process decides: a
//! service manager, a container's runtime and a login give limits on purpose; a shell or a supervisor passes its own on.

use serde::{Deserialize, Serialize};

use super::starter::{Starter, starter};
use crate::ground::place::{self, Place};

/// Soft and hard `RLIMIT_NOFILE`; `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nofile {
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// A process above another one. Text is untrusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its v2 cgroup; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
    /// Its limits; `None` where they could not be read.
    pub limits: Option<Nofile>,
    /// The script that it runs, if it is a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

/// What the files of a unit say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFile {
    /// The unit.
    pub name: String,
    /// `LimitNOFILE`; `None`: no file sets it, and the service manager's own default is in force.
    pub limits: Option<Nofile>,
    /// The file that sets it, below the manager's root. Untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Who is above a process, and what its unit says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Its parent first.
    pub above: Vec<Ancestor>,
    /// Where it is in a unit whose files could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitFile>,
}

/// Who has given a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The process, or a program that it was before exec, such as a script with `ulimit` in it.
    #[serde(rename = "self")]
    Own,
    /// Its unit: `LimitNOFILE`, or the service manager's default.
    Unit,
    /// The runtime of its container.
    Container,
    /// The login that it comes from.
    Session,
    /// A process above it, which has the same limit and was not given it.
    Parent,
    /// Nobody can tell.
    Unknown,
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Who has given it.
    pub origin: Origin,
    /// The parent, if it could be looked at.
    pub parent: Option<Ancestor>,
    /// Of [`Origin::Parent`]: the topmost process that has the limit; of the others the one that gives it, where it is
    /// a process.
    pub starter: Option<Ancestor>,
    /// Of [`Origin::Unit`]: its files.
    pub unit: Option<UnitFile>,
    /// The limit in question is the hard one, and the process has raised its soft one to it.
    pub has_raised_soft: bool,
}

/// systemd's own defaults: `DefaultLimitNOFILE=1024:524288` (`HIGH_RLIMIT_NOFILE`; src/basic/rlimit-util.h), the hard one
/// where the kernel allows as much. Before systemd 240 the kernel's: 1024 and 4096.
const DEFAULTS: [Nofile; 2] = [
    Nofile {
        soft: 1_024,
        hard: 524_288,
    },
    Nofile {
        soft: 1_024,
        hard: 4_096,
    },
];

/// Who gives logins their limits, through PAM.
const LOGINS: &[&str] = &[
    "atd",
    "cron",
    "crond",
    "gdm-session-wor",
    "lightdm",
    "login",
    "sddm-helper",
    "sshd",
    "sshd-session",
    "xrdp-sesman",
];
/// The same where they give others than they have: for another user, within a login.
const SWITCHES: &[&str] = &["doas", "su", "sudo"];

impl Nofile {
    /// Are they the same, as far as it matters for a process with these limits? Where the soft limit is as high as the
    /// hard one, it is the hard one that stands in the way.
    fn is_given_by(self, other: Self) -> bool {
        if self.soft == self.hard {
            self.hard == other.hard
        } else {
            self.soft == other.soft
        }
    }
}

impl Ancestor {
    /// Is it systemd, the host's, a user's or a container's? Those are in a scope of their own.
    #[must_use]
    pub fn is_manager(&self) -> bool {
        self.comm == "systemd" && (self.pid == 1 || self.cgroup.ends_with("/init.scope"))
    }

    fn container(&self) -> Option<place::Container> {
        place::parse(self.cgroup.as_bytes()).container
    }
}

impl Whose {
    /// Whose limit that is. `lineage`: what was found of the process; `None`: it was gone by then.
    #[must_use]
    pub fn of(own: Nofile, place: &Place, lineage: Option<&Lineage>) -> Self {
        let above = lineage.map_or(&[][..], |lineage| &lineage.above);
        let parent = above.first().cloned();
        let unit = lineage.and_then(|lineage| lineage.unit.clone());
        let has = |ancestor: &Ancestor| ancestor.limits.is_some_and(|it| own.is_given_by(it));
        // Up to here the limit is passed on, by all but those who give one on purpose.
        let is_border = |ancestor: &&Ancestor| {
            let is_login = LOGINS.contains(&&*ancestor.comm);
            !has(ancestor) || is_login || ancestor.is_manager() || is_outside(ancestor, place)
        };
        let at = above.iter().position(|ancestor| is_border(&ancestor));
        let giver = above.get(at.unwrap_or(usize::MAX));
        let same = &above[..at.unwrap_or(above.len())];
        let top = same.last();
        let (origin, starter) = match (giver, top) {
            _ if above.is_empty() => (Origin::Unknown, None),
            (Some(giver), _) if is_outside(giver, place) => (Origin::Container, Some(giver)),
            (Some(giver), _) if giver.is_manager() => {
                match is_of_unit(own, unit.as_ref(), giver) {
                    Some(true) => (Origin::Unit, Some(giver)),
                    Some(false) => {
                        top.map_or((Origin::Own, None), |top| (Origin::Parent, Some(top)))
                    }
                    // In a scope: whoever has started it has ended, or the manager passes its own on.
                    None if has(giver) => (Origin::Parent, Some(giver)),
                    None => (Origin::Unknown, None),
                }
            }
            (Some(giver), _)
                if LOGINS.contains(&&*giver.comm) || SWITCHES.contains(&&*giver.comm) =>
            {
                (Origin::Session, Some(giver))
            }
            // Left to init by whoever has started it, as daemons are.
            (Some(giver), None) if giver.pid == 1 => (Origin::Unknown, None),
            (Some(_), None) => (Origin::Own, None),
            (_, Some(top)) => (Origin::Parent, Some(top)),
            (None, None) => (Origin::Unknown, None),
        };
        let soft_of = |ancestor: &Ancestor| ancestor.limits.map(|limits| limits.soft);
        let soft_above = match (origin, &unit) {
            (Origin::Unit, Some(UnitFile { limits, .. })) => {
                Some(limits.unwrap_or(DEFAULTS[0]).soft)
            }
            (Origin::Own | Origin::Unknown, _) => None,
            _ => parent.as_ref().and_then(soft_of),
        };
        Self {
            origin,
            has_raised_soft: own.soft == own.hard && soft_above.is_some_and(|soft| soft < own.soft),
            starter: starter.cloned(),
            parent,
            unit: unit.filter(|_| origin == Origin::Unit),
        }
    }

    /// What is known of the process that passes its limit on.
    #[must_use]
    pub fn known_starter(&self) -> Option<&'static Starter> {
        let starter = self.starter.as_ref();
        starter.and_then(|it| self::starter(&it.comm))
    }

    /// The same in a clause, behind the limits: "set by itself (its parent has 1024)". Untrusted text in it. `None` where
    /// nothing is known.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let named = |ancestor: &Ancestor| format!("{} ({})", ancestor.comm, ancestor.pid);
        let clause = match (self.origin, &self.starter) {
            (Origin::Own, _) => {
                let limits = self.parent.as_ref().and_then(|parent| parent.limits)?;
                format!("set by itself (its parent has {})", limits.words())
            }
            (Origin::Unit, _) => {
                let unit = self.unit.as_ref()?;
                match &unit.path {
                    Some(path) => format!("given by the unit {} ({path})", unit.name),
                    None => format!("systemd's default, as {} sets none", unit.name),
                }
            }
            (Origin::Container, _) => "given by the container".to_owned(),
            (Origin::Session, Some(giver)) => format!("given at login, by {}", named(giver)),
            (Origin::Parent, Some(top)) => match self.known_starter() {
                Some(starter) if starter.is_shell => {
                    let script = top.script.as_ref();
                    let script = script.map(|script| format!(", which runs {script}"));
                    let script = script.unwrap_or_default();
                    format!("inherited from the shell {}{script}", named(top))
                }
                Some(starter) => format!("given by {}, {}", named(top), starter.setting),
                None => format!("inherited from {}", named(top)),
            },
            _ => return None,
        };
        Some(if self.has_raised_soft {
            format!("the hard one {clause}; the soft one raised to it by itself")
        } else {
            clause
        })
    }
}

impl Nofile {
    fn words(self) -> String {
        let number = |limit| match limit {
            u64::MAX => "unlimited".to_owned(),
            limit => format!("{limit}"),
        };
        if self.soft == self.hard {
            number(self.soft)
        } else {
            format!("{}, hard {}", number(self.soft), number(self.hard))
        }
    }
}

/// Is it outside of the container that the process is in?
fn is_outside(ancestor: &Ancestor, place: &Place) -> bool {
    place.container.is_some() && ancestor.container() != place.container
}

/// Has the unit given these limits? `None` where its files could not be read. Where they set none, a user's manager
/// passes its own on.
fn is_of_unit(own: Nofile, unit: Option<&UnitFile>, manager: &Ancestor) -> Option<bool> {
    let is_default = || DEFAULTS.iter().any(|default| own.is_given_by(*default));
    let is_managers = || manager.pid != 1 && manager.limits.is_some_and(|it| own.is_given_by(it));
    Some(match unit?.limits {
        Some(limits) => own.is_given_by(limits),
        None => is_default() || is_managers(),
    })
}

#[cfg(test)]
mod tests;
