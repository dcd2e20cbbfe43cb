//! Which processes are fdtrace's own readers: `trace` and `leaks` show them as little as fdtrace itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What a process did at its end is told somewhat later.
const LATE: Duration = Duration::from_secs(2);

/// Their numbers, and when they ended.
static PROCESSES: Mutex<Vec<(u32, Option<Instant>)>> = Mutex::new(Vec::new());

/// Is this fdtrace's own reader process, or one that has just ended?
#[must_use]
pub fn is_reader(pid: u32) -> bool {
    let processes = processes();
    let own = processes.iter().find(|(known, _)| *known == pid);
    own.is_some_and(|(_, ended)| is_current(*ended))
}

fn is_current(ended: Option<Instant>) -> bool {
    ended.is_none_or(|ended| ended.elapsed() < LATE)
}

fn processes() -> MutexGuard<'static, Vec<(u32, Option<Instant>)>> {
    PROCESSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One has been started.
pub(super) fn began(pid: u32) {
    let mut processes = processes();
    processes.retain(|(known, ended)| *known != pid && is_current(*ended));
    processes.push((pid, None));
}

/// One has ended.
pub(super) fn ended(pid: u32) {
    let mut processes = processes();
    let own = processes.iter_mut().find(|(known, _)| *known == pid);
    if let Some((_, ended)) = own {
        *ended = Some(Instant::now());
    }
}
