//! What select(2) means for a higher limit: it must not come, or with a warning.

use std::iter;

use super::{Remedy, Situation, When, harmless};
use crate::diagnose::select::{LIMIT, Select};

/// The most that the soft limit may be raised to.
pub(super) fn highest(situation: &Situation) -> Option<u64> {
    let is_bound = situation
        .select
        .is_some_and(|select| select.forbids(situation.soft, u64::MAX));
    is_bound.then_some(LIMIT)
}

/// Is the limit as high as the program survives?
pub(super) fn is_in_the_way(situation: &Situation) -> bool {
    highest(situation).is_some_and(|highest| situation.soft >= highest)
}

/// What to do where the limit cannot be raised further.
pub(super) fn instead(situation: &Situation) -> Vec<Remedy> {
    let Some(Select::Called { most }) = situation.select else {
        return Vec::new();
    };
    if !is_in_the_way(situation) {
        return Vec::new();
    }
    let now = Remedy::words(
        When::Now,
        format!(
            "do not raise the limit: it uses select(2) ({}), which aborts or corrupts memory with an fd above \
             {}; fewer fds, or a second instance",
            calls(*most),
            LIMIT - 1
        ),
    );
    let code = Remedy::words(
        When::Code,
        "wait with poll or epoll in place of select: only then a limit above 1024 helps",
    );
    let now = (!situation.has_ended).then_some(now);
    iter::once(code).chain(now).collect()
}

/// Says of everything that raises the limit beyond what a set holds what may become of it.
pub(super) fn warn(remedies: &mut [Remedy], soft: u64, situation: &Situation) {
    if soft <= LIMIT {
        return;
    }
    let warning = match situation.select {
        Some(Select::Called { most }) => format!(
            "it uses select(2) ({}), which aborts or corrupts memory where it waits for an fd above {}",
            calls(*most),
            LIMIT - 1
        ),
        Some(Select::Imported { by }) => format!(
            "{} imports select(2), which aborts or corrupts memory with an fd above {}; no call has been seen",
            harmless(by).unwrap_or("a file of the program"),
            LIMIT - 1
        ),
        Some(Select::No) | None => return,
    };
    for remedy in remedies {
        remedy.warning = Some(warning.clone());
    }
}

fn calls(most: u32) -> String {
    format!("called for fds up to {}", most.saturating_sub(1))
}
