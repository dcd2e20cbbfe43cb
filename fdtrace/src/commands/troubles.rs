//! What goes wrong while a stream goes on. An error of one process, map entry, file or lookup ends no stream: it is
//! noted here and reported, at once the first time, and then at most once a minute with a count. Pure.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::timers::Timer;

/// What goes on going wrong is reported again after this time.
const AGAIN: Timer = Timer::seconds(60);

/// Errors, by what they have kept from being done. That is literal text in this program: there are few of them,
/// however many errors there are.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    kinds: BTreeMap<&'static str, Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// The last error.
    latest: String,
    /// Errors since the last report.
    count: u64,
    /// When that was.
    reported_ns: Option<u64>,
}

impl Troubles {
    /// The value; or `None`, and the error is noted. `what` says what does not work, or what is missing for it.
    pub(super) fn note<T>(&mut self, what: &'static str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                let trouble = self.kinds.entry(what).or_default();
                trouble.latest = format!("{error:#}");
                trouble.count += 1;
                None
            }
        }
    }

    /// What is to be reported now, a line each.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<String> {
        self.report(Some(now_ns), |trouble| {
            let reported_ns = trouble.reported_ns;
            reported_ns.is_none_or(|then| now_ns >= then.saturating_add(AGAIN.ns()))
        })
    }

    /// Everything that has not been reported: the stream ends.
    pub(super) fn rest(&mut self) -> Vec<String> {
        self.report(None, |_| true)
    }

    fn report(&mut self, now_ns: Option<u64>, is_due: impl Fn(&Trouble) -> bool) -> Vec<String> {
        let kinds = self.kinds.iter_mut();
        let due = kinds.filter(|(_, trouble)| trouble.count > 0 && is_due(trouble));
        due.map(|(what, trouble)| {
            let times = match trouble.count {
                1 => String::new(),
                count => format!(" ({count} times)"),
            };
            trouble.count = 0;
            trouble.reported_ns = now_ns.or(trouble.reported_ns);
            format!("{what}: {}{times}", trouble.latest)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn failed<T>(troubles: &mut Troubles, what: &'static str) -> Option<T> {
        troubles.note(what, Err(anyhow!("no room")).context("adding"))
    }

    #[test]
    fn an_error_is_reported_at_once_and_then_once_a_minute_with_a_count() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.note("counting", Ok(7)), Some(7));
        assert!(troubles.due(SECOND).is_empty());
        assert_eq!(failed::<u8>(&mut troubles, "counting"), None);
        assert_eq!(troubles.due(SECOND), ["counting: adding: no room"]);
        for second in 2..=60 {
            failed::<u8>(&mut troubles, "counting");
            assert!(troubles.due(second * SECOND).is_empty(), "{second}");
        }
        let again = ["counting: adding: no room (59 times)"];
        assert_eq!(troubles.due(61 * SECOND), again);
        assert!(troubles.due(200 * SECOND).is_empty(), "it is over");
    }

    #[test]
    fn one_kind_does_not_hide_another() {
        let mut troubles = Troubles::default();
        failed::<u8>(&mut troubles, "counting");
        assert_eq!(troubles.due(SECOND).len(), 1);
        failed::<u8>(&mut troubles, "counting");
        failed::<u8>(&mut troubles, "looking");
        assert_eq!(troubles.due(2 * SECOND), ["looking: adding: no room"]);
        assert_eq!(troubles.rest(), ["counting: adding: no room"]);
        assert!(troubles.rest().is_empty());
    }

    #[test]
    fn memory_does_not_grow_with_errors() {
        let mut troubles = Troubles::default();
        for _ in 0..100_000 {
            failed::<u8>(&mut troubles, "counting");
        }
        assert_eq!(troubles.kinds.len(), 1);
    }
}
