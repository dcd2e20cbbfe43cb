//! What several formats for people say in the same words.

use super::{connections, folders, sanitize::printable};
use crate::diagnose::{holders::Holder, origin::Whose, verdict::Verdict};

/// One thing, or several.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A number, or what stands for one that is not known.
#[must_use]
pub fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

/// A limit; `RLIM_INFINITY` has a name.
#[must_use]
pub fn limit(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

/// The soft limit in words, who has given it, and the hard one.
#[must_use]
pub(super) fn given(soft: &str, hard: &str, whose: Option<&Whose>) -> Vec<String> {
    match whose.and_then(Whose::words) {
        Some(words) => {
            let words = printable(words.as_bytes());
            vec![format!("{soft}, {words}"), format!("hard {hard}")]
        }
        None => vec![format!("{soft}, hard {hard}")],
    }
}

/// An age for people: no more exact than it is worth.
#[must_use]
pub(super) fn age(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    match UNITS.iter().find(|(unit, _)| seconds >= 2.0 * unit) {
        Some((unit, name)) => format!("{:.0} {name}", seconds / unit),
        None if seconds >= 10.0 => format!("{seconds:.0} s"),
        None => format!("{seconds:.1} s"),
    }
}

/// Growth in the unit in which it can be pictured.
#[must_use]
pub(super) fn rate(per_min: f64) -> String {
    const A_SECOND: f64 = 60.0;
    if per_min >= 2.0 * A_SECOND {
        format!("{:.0} a second", per_min / A_SECOND)
    } else if per_min >= 10.0 {
        format!("{per_min:.0} a minute")
    } else {
        format!("{per_min} a minute")
    }
}

/// Seconds between two moments, nanoseconds since boot.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds, to be read by people")]
pub(super) fn seconds_between(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns) as f64 / 1e9
}

/// What a group of fds leads to; `None`: its kind says it all.
#[must_use]
pub(super) fn target(holder: &Holder) -> Option<String> {
    if let Some(words) = folders::one(holder) {
        return Some(words);
    }
    let target = match &holder.target {
        Some(target) => Some(printable(target)),
        None if holder.targets > 1 => Some(format!("{} different", holder.targets)),
        None => None,
    };
    connections::words(holder, target.as_deref()).or(target)
}

/// What a verdict rests on.
#[must_use]
pub(super) fn evidence(verdict: &Verdict) -> String {
    let evidence = verdict.evidence.iter();
    let evidence: Vec<_> = evidence.map(|words| printable(words.as_bytes())).collect();
    evidence.join("; ")
}

/// A verdict with what it rests on, in one line.
#[must_use]
pub(super) fn sentence(verdict: &Verdict) -> String {
    let growth = verdict
        .growth_per_min
        .map_or_else(String::new, |growth| format!(", {}", rate(growth)));
    format!("{}{growth}: {}", verdict.kind, evidence(verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_the_unit_that_fits() {
        let words = [0.04, 1.94, 59.0, 119.0, 150.0, 7_300.0, 200_000.0].map(age);
        assert_eq!(
            words,
            ["0.0 s", "1.9 s", "59 s", "119 s", "2 min", "2 h", "2 d"]
        );
    }

    #[test]
    fn rates_have_the_unit_that_fits() {
        let words = [0.3, 9.5, 19.2, 119.0, 120.0, 1_198.0].map(rate);
        assert_eq!(
            words,
            [
                "0.3 a minute",
                "9.5 a minute",
                "19 a minute",
                "119 a minute",
                "2 a second",
                "20 a second"
            ]
        );
    }
}
