//! What fdtrace needs for itself: fds when others have none, and its turn when others take every CPU.

use log::debug;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use crate::child;

/// The nice value of a reader that must keep up. It runs for a fraction of a CPU, but then at once.
const NICE: i32 = -10;

/// On a host with more runnable threads than CPUs, the ring buffer would fill before its reader's turn.
pub(super) fn keep_up() {
    child::remember();
    if let Err(error) = setpriority_process(None, NICE) {
        debug!("raising the own priority: {error}");
    }
}

/// Drops the inherited priority in a background thread.
pub(super) fn have_time() {
    if let Err(error) = setpriority_process(None, child::nice()) {
        debug!("lowering the priority of a thread: {error}");
    }
}

/// Raises the own soft limit to the hard one.
pub(super) fn raise_limit() {
    child::remember();
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!("raising the own fd limit: {error}");
    }
}
