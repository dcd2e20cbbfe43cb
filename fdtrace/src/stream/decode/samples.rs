//! A failure for the tests of what is made of it.

use super::*;

/// Process 100 opens what it can: a table of 64 slots, at a soft limit of 64, every number taken.
pub(crate) fn alarm() -> Alarm {
    Alarm {
        time_ns: 1,
        key: StormKey {
            files: 0x1000,
            started_ns: 5,
            tgid: 100,
            call: 0,
            hook: 1,
            errno: 24,
            limit: 64,
            cpu: 0,
        },
        failures: 1,
        cpu: 0,
        tid: 100,
        uid: 0,
        soft: 64,
        hard: 4096,
        arguments: [0; 3],
        used: Some(64),
        open: Some(64),
        max_fds: 64,
        by_supervisor: false,
        comm: b"victim".to_vec(),
        exe: None,
        cgroup: b"/".to_vec(),
    }
}
