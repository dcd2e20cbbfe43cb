//! fdtrace must not run out of fds itself while it reports that somebody else did.

use log::debug;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the own soft limit to the hard one.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!("raising the own fd limit: {error}");
    }
}
