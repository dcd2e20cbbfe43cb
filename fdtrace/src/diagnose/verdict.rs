//! Leak or load? A verdict and what it rests on, in words and numbers. Pure.
//!
//! What tells a leak from load is not how many fds are open, nor what has been opened and closed, but what becomes
//! of those that are open. What leaks stays: the ages of the fds in the table are spread over the time in which
//! it has grown. Under load fds are closed again: whatever the table held a while ago is gone by now. Connections
//! have a state as well: a client that is connected is load for as long as it is, and one that has hung up is a
//! leak.

mod evidence;
mod growth;
mod past;
mod peak;
mod served;
mod turnover;

use serde::Serialize;

use self::growth::{GROWN_MIN, SECONDS_MIN};
pub use self::{
    evidence::{Evidence, Rise, Subject},
    growth::Growth,
    peak::Peak,
    turnover::Turnover,
};

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// Fds are opened and never closed.
    Leak,
    /// Fds are closed again; the load needs more than the limit allows.
    Saturation,
    /// A short peak.
    Burst,
    /// Most fds came through fork or exec.
    Inherited,
    /// Too little has been seen to tell.
    Unknown,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What it is.
    pub kind: Kind,
    /// By how much the least number open grows, where it does steadily.
    pub growth_per_min: Option<f64>,
    /// What that rests on.
    pub evidence: Vec<String>,
}

impl Verdict {
    /// The verdict on a table.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let open = evidence.open;
        if evidence.inherited > open / 2 {
            let words = format!(
                "{} of {open} came by fork, unshare or exec",
                evidence.inherited
            );
            return Self::new(Kind::Inherited, None, vec![words]);
        }
        Self::clients(evidence)
            .or_else(|| Self::leak(evidence))
            .or_else(|| Self::close_wait(evidence))
            .or_else(|| Self::burst(evidence))
            .or_else(|| Self::saturation(evidence))
            .unwrap_or_else(|| Self::unknown(evidence))
    }

    fn new(kind: Kind, growth_per_min: Option<f64>, evidence: Vec<String>) -> Self {
        Self {
            kind,
            growth_per_min,
            evidence,
        }
    }

    /// Connected clients: they hang up when they have done.
    fn clients(evidence: &Evidence) -> Option<Self> {
        // A short peak of clients is a peak.
        let for_them = evidence.clients.saturating_add(evidence.for_clients);
        let are_most = for_them > evidence.open / 2 && evidence.peak.is_none();
        (are_most || evidence.are_clients_growing).then(|| {
            let mut words = vec![format!(
                "{} of {} are connected clients (ESTABLISHED)",
                evidence.clients, evidence.open
            )];
            if evidence.for_clients > 0 {
                let made = format!("{} are connections made for them", evidence.for_clients);
                words.push(made);
            }
            Self::new(Kind::Saturation, None, words)
        })
    }

    /// Fds pile up that nobody closes.
    fn leak(evidence: &Evidence) -> Option<Self> {
        let growth = evidence.growth?;
        let mut words = vec![format!(
            "minimum open rose {} to {} in {}",
            growth.from,
            growth.to,
            seconds(growth.seconds)
        )];
        words.push(format!(
            "{} of {} open {} ago still open",
            growth.half_kept,
            growth.half,
            seconds(growth.half_s)
        ));
        words.extend(hung_up(evidence));
        words.extend(evidence.cohort.clone());
        // Nothing in the kernel tells the two apart before the cache is full.
        words.extend(evidence.different_files.map(|count| {
            format!(
                "{count} different files, each open once: a cache that still grows looks the same"
            )
        }));
        Some(Self::new(Kind::Leak, Some(growth.per_min()), words))
    }

    /// Most of the table has been closed by the other end, and the process does not close it.
    fn close_wait(evidence: &Evidence) -> Option<Self> {
        let are_most = evidence.close_wait > evidence.open / 2 && evidence.is_close_wait_old;
        if !are_most || evidence.turnover.is_some() {
            return None;
        }
        let mut words: Vec<_> = hung_up(evidence).into_iter().collect();
        words.extend(evidence.cohort.clone());
        Some(Self::new(Kind::Leak, None, words))
    }

    /// A peak: the table was less than half as full most of the time.
    fn burst(evidence: &Evidence) -> Option<Self> {
        let peak = evidence.peak.as_ref()?;
        let words = vec![
            format!(
                "{} open now, {} or fewer {} ago",
                evidence.open,
                peak.usual,
                seconds(peak.seconds)
            ),
            match peak.earlier {
                Some(earlier) => {
                    format!("an earlier peak of {earlier} went down to {}", peak.valley)
                }
                None => format!("{} opened and {} closed since", peak.opened, peak.closed),
            },
        ];
        Some(Self::new(Kind::Burst, None, words))
    }

    /// What the table holds is closed again, or it does not grow.
    fn saturation(evidence: &Evidence) -> Option<Self> {
        if evidence.seconds < SECONDS_MIN {
            return None;
        }
        if let Some(turnover) = evidence.turnover {
            let mut words = Vec::new();
            if turnover.is_of_table() {
                words.push(format!(
                    "{} of {} open {} ago closed by now",
                    turnover.closed_of_open,
                    turnover.open,
                    seconds(turnover.seconds)
                ));
            }
            if turnover.closed > 0 {
                words.push(format!(
                    "{} opened and {} closed in {}",
                    turnover.opened,
                    turnover.closed,
                    seconds(turnover.seconds)
                ));
            }
            return Some(Self::new(Kind::Saturation, None, words));
        }
        let holds_still = !evidence.is_exhausted
            && evidence.seconds >= 2.0 * SECONDS_MIN
            && evidence.highest - evidence.lowest < GROWN_MIN.max(evidence.open / 20);
        holds_still.then(|| {
            let words = vec![format!(
                "between {} and {} open for {}: it does not grow",
                evidence.lowest,
                evidence.highest,
                seconds(evidence.seconds)
            )];
            Self::new(Kind::Saturation, None, words)
        })
    }

    /// What is missing.
    fn unknown(evidence: &Evidence) -> Self {
        let mut words = Vec::new();
        if evidence.from_before > evidence.open / 2 {
            words.push(format!(
                "{} of {} were open before fdtrace looked",
                evidence.from_before, evidence.open
            ));
        }
        // What rounds to nothing is nothing that was seen.
        let is_seen = evidence.seconds >= 0.05;
        if evidence.seconds >= SECONDS_MIN {
            words.push("neither steady growth nor enough closed to call it load".to_owned());
        } else if is_seen {
            words.push(format!(
                "observed for only {}; at least {SECONDS_MIN} s needed",
                seconds(evidence.seconds)
            ));
        }
        if is_seen && evidence.opened + evidence.closed > 0 {
            words.push(format!(
                "{} opened and {} closed in {}",
                evidence.opened,
                evidence.closed,
                seconds(evidence.seconds)
            ));
        }
        words.extend(evidence.cohort.clone());
        if words.is_empty() {
            words.push(format!("at least {SECONDS_MIN} s of observation needed"));
        }
        Self::new(Kind::Unknown, None, words)
    }
}

/// Connections that the other end has closed, where they are worth a word.
fn hung_up(evidence: &Evidence) -> Option<String> {
    let (count, open) = (evidence.close_wait, evidence.open);
    (count > open / 4)
        .then(|| format!("{count} of {open} in CLOSE_WAIT: closed by the other end only"))
}

/// A time in words, no more exact than it is worth.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 600.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests;
