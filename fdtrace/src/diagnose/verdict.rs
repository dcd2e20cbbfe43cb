//! Leak or honest load? A verdict and what it rests on, in words and numbers. Pure.
//!
//! What tells a leak from load is not how many fds are open but what becomes of them. In a leak the least
//! number open keeps rising, and what was opened early is still open late. Under load fds are closed
//! again: few of the early ones are left, however many there are.

mod evidence;

use serde::Serialize;

pub use self::evidence::Evidence;
use self::evidence::{RISE_MIN, SECONDS_MIN};

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
        Self::leak(evidence)
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

    /// A steady rise of the least number open, made of fds that nobody closes.
    fn leak(evidence: &Evidence) -> Option<Self> {
        let rise = evidence.rise.as_ref()?;
        let growth = evidence.growth_per_min()?;
        let (opened, kept) = (rise.early_opened, u64::from(rise.early_kept));
        // What is left of the early ones is what the table had grown by: it never came back. Where it is
        // less, others have taken their places, and more is open because more is done at once.
        let is_kept = kept * 4 >= u64::from(rise.early_grown) * 3;
        if !is_kept {
            return None;
        }
        let mut words = vec![format!(
            "the least number open has risen steadily from {} to {} in {}",
            rise.from,
            rise.to,
            seconds(rise.seconds)
        )];
        words.push(format!(
            "{kept} of {opened} opened in the first half of that time are still open, when it grew by {}",
            rise.early_grown
        ));
        words.extend(evidence.cohort.clone());
        Some(Self::new(Kind::Leak, Some(growth), words))
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
                    format!(
                        "a peak of {earlier} has gone down to {} before",
                        peak.valley
                    )
                }
                None => format!(
                    "{} were opened and {} closed again meanwhile",
                    peak.opened, peak.closed
                ),
            },
        ];
        Some(Self::new(Kind::Burst, None, words))
    }

    /// Much is opened, and much is closed again.
    fn saturation(evidence: &Evidence) -> Option<Self> {
        if evidence.seconds < SECONDS_MIN {
            return None;
        }
        let (opened, closed) = (evidence.opened, evidence.closed);
        let turns_over = closed >= u64::from(RISE_MIN) && closed * 4 >= opened;
        if turns_over {
            let mut words = vec![format!(
                "{opened} opened and {closed} closed in {}: fds are closed again",
                seconds(evidence.seconds)
            )];
            words.extend(evidence.rise.as_ref().map(|rise| {
                format!(
                    "{} of {} opened in the first half of that time are still open",
                    rise.early_kept, rise.early_opened
                )
            }));
            return Some(Self::new(Kind::Saturation, None, words));
        }
        let holds_still = !evidence.is_exhausted
            && evidence.seconds >= 2.0 * SECONDS_MIN
            && evidence.highest - evidence.lowest < RISE_MIN.max(evidence.open / 20);
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
                "{} of {} were open before fdtrace has looked",
                evidence.from_before, evidence.open
            ));
        }
        if evidence.seconds < SECONDS_MIN {
            words.push(format!(
                "seen for {} only, growth shows after {SECONDS_MIN} s",
                seconds(evidence.seconds)
            ));
        }
        words.push(format!(
            "{} opened and {} closed in {}",
            evidence.opened,
            evidence.closed,
            seconds(evidence.seconds)
        ));
        if evidence.seconds >= SECONDS_MIN {
            words.push("no steady growth, and too few closed again to call it load".to_owned());
        }
        words.extend(evidence.cohort.clone());
        Self::new(Kind::Unknown, None, words)
    }
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
