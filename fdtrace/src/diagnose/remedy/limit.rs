//! How far to raise `RLIMIT_NOFILE`, and how to.

use super::{Remedy, Situation, When, select, sysctl};
use crate::diagnose::verdict::Kind;

/// Limits that are in use elsewhere: what to expect of them is known.
const STEPS: [u64; 4] = [4_096, 65_536, 524_288, 1 << 20];
/// So many times what is used now.
const ROOM: u64 = 4;
/// The kernel's `fs.nr_open` unless somebody has set it (fs/file.c).
const NR_OPEN: u64 = 1 << 20;

/// Limits to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raise {
    pub(super) soft: u64,
    /// `RLIM_INFINITY` where there is none.
    pub(super) hard: u64,
    /// Must be raised?
    is_above_hard: bool,
    /// `fs.nr_open` that must be set before.
    nr_open: Option<u64>,
    is_nr_open_known: bool,
}

impl Raise {
    /// `None` where the limit is as high as can be.
    pub(super) fn of(situation: &Situation) -> Option<Self> {
        let known = situation.host.settings.nr_open;
        let allowed = known.unwrap_or(NR_OPEN.max(finite(situation.hard)));
        let needed = situation.used.map_or(0, u64::from).max(situation.soft);
        let wanted = needed.saturating_mul(ROOM);
        let step = STEPS.into_iter().find(|step| *step >= wanted);
        let wanted = step.unwrap_or_else(|| wanted.checked_next_power_of_two().unwrap_or(u64::MAX));
        let wanted = wanted.min(sysctl::NR_OPEN_MAX);
        let wanted = wanted.min(select::highest(situation).unwrap_or(u64::MAX));
        if wanted <= situation.soft || situation.soft > situation.hard {
            return None;
        }
        // prlimit sets the hard limit too, if only to what it was, and the kernel looks at it (do_prlimit,
        // kernel/sys.c): a hard limit above an fs.nr_open that was lowered since is in the way.
        let is_in_the_way = situation.hard > allowed;
        if is_in_the_way && situation.hard > sysctl::NR_OPEN_MAX {
            return None;
        }
        let (soft, nr_open) = if is_in_the_way {
            // Below the hard limit there is room, unless the soft one is as high.
            let soft = if situation.soft < situation.hard {
                wanted.min(situation.hard)
            } else {
                wanted
            };
            (soft, Some(soft.max(situation.hard)))
        } else if wanted <= allowed {
            (wanted, None)
        } else if allowed > needed {
            (allowed, None)
        } else {
            (wanted, Some(wanted))
        };
        Some(Self {
            soft,
            hard: soft.max(situation.hard),
            is_above_hard: soft > situation.hard,
            nr_open,
            is_nr_open_known: known.is_some(),
        })
    }

    /// For the process as it runs.
    pub(super) fn now(self, situation: &Situation) -> Remedy {
        // What follows the colon is the hard limit; with nothing there it stays as it is.
        let hard = if self.is_above_hard {
            self.hard.to_string()
        } else {
            String::new()
        };
        let mut command = format!(
            "prlimit --pid {} --nofile={}:{hard}",
            situation.pid, self.soft
        );
        if let Some(nr_open) = self.nr_open {
            command = format!("{} && {command}", sysctl::set("fs.nr_open", nr_open));
        }
        let mut text = if self.is_above_hard {
            format!(
                "raises both limits to {}, for which it takes CAP_SYS_RESOURCE (root's)",
                self.soft
            )
        } else {
            format!(
                "raises the soft limit to {} and leaves the hard one",
                self.soft
            )
        };
        if self.nr_open.is_some() {
            text.push_str(", once fs.nr_open allows as much");
        } else if !self.is_nr_open_known && self.is_above_hard {
            text.push_str("; fs.nr_open, which is not known here, must allow as much");
        }
        text.push_str(&self.bought(situation));
        Remedy {
            buys: self.buys(situation),
            ..Remedy::command(When::Now, command, text)
        }
    }

    /// The same without touching the hard limit; `None` where there is no room below it.
    pub(super) fn below_hard(self, situation: &Situation) -> Option<Self> {
        if !self.is_above_hard {
            return Some(self);
        }
        let has_room = situation.soft < situation.hard && self.nr_open.is_none();
        has_room.then_some(Self {
            soft: situation.hard,
            hard: situation.hard,
            is_above_hard: false,
            ..self
        })
    }

    /// What else the limit needs after a boot.
    pub(super) fn settings_for_good(self) -> Option<Remedy> {
        self.nr_open
            .map(|nr_open| sysctl::for_good("fs.nr_open", nr_open))
    }

    /// What a higher limit is worth.
    fn bought(self, situation: &Situation) -> String {
        if does_not_grow(situation) {
            return "; buys nothing: it does not grow".to_owned();
        }
        if situation.verdict == Kind::Saturation {
            return "; what is open is in use, so that it is the right thing to do".to_owned();
        }
        if situation.verdict != Kind::Leak {
            return String::new();
        }
        self.time(situation).map_or_else(
            || "; it only buys time".to_owned(),
            |time| format!("; that buys {time}"),
        )
    }

    /// The same in short: the time until the table is full again, or that there is none to be had.
    fn buys(self, situation: &Situation) -> Option<String> {
        if does_not_grow(situation) {
            return Some("nothing: it does not grow".to_owned());
        }
        self.time(situation)
    }

    /// How long it takes to fill the table up to the new limit.
    fn time(self, situation: &Situation) -> Option<String> {
        let used = situation.used.map_or(situation.soft, u64::from);
        let growth = situation.growth_per_min?;
        seconds(self.soft.saturating_sub(used), growth).map(duration)
    }
}

/// Nothing has failed yet, and the table has been seen to stay as it is.
fn does_not_grow(situation: &Situation) -> bool {
    !situation.is_exhausted
        && situation.verdict == Kind::Saturation
        && situation.growth_per_min.is_none()
}

/// How long until so many more are open. `None` for what is no growth.
fn seconds(more: u64, growth_per_min: f64) -> Option<u64> {
    // A quarter of an fd a day is as good as none, and keeps the quotient a number of seconds.
    const LEAST: f64 = 1e-4;
    if !growth_per_min.is_finite() || growth_per_min < LEAST {
        return None;
    }
    // Thousandths are exact enough, and keep to whole numbers.
    let thousandths = (growth_per_min.min(1e9) * 1e4).round();
    let thousandths = format!("{thousandths:.0}").parse::<u64>().ok()?;
    more.saturating_mul(600_000).checked_div(thousandths)
}

/// In its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, rest_s) = (seconds / 60, seconds % 60);
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) if minutes == 0 => format!("{} s", seconds.max(1)),
        (0, 0) if minutes < 10 && rest_s > 0 => format!("{rest} min {rest_s} s"),
        (0, 0) => format!("{rest} min"),
        (0, _) => format!("{hours} h {rest} min"),
        (1..=999, _) => format!("{days} d {hours} h"),
        _ => format!("{} years", days / 365),
    }
}

fn finite(limit: u64) -> u64 {
    if limit == u64::MAX { 0 } else { limit }
}

/// As people and prlimit write it.
pub(super) fn shown(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_tells_how_long_it_lasts() {
        let lasts = |more, growth| seconds(more, growth).map(duration);
        assert_eq!(lasts(64_512, 18.2).as_deref(), Some("2 d 11 h"));
        assert_eq!(lasts(3_072, 19.2).as_deref(), Some("2 h 40 min"));
        assert_eq!(lasts(10, 1e300).as_deref(), Some("1 s"));
        assert_eq!(lasts(4_000, 1_200.0).as_deref(), Some("3 min 20 s"));
        assert_eq!(
            lasts(u64::MAX, 0.0001).as_deref(),
            Some("584942417355 years")
        );
        for none in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(lasts(1, none), None, "{none}");
        }
    }
}
