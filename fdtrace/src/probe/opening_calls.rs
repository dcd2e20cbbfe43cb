//! Which system calls open fds, and how their end tells which: for the backend that has no hook inside calls.

use anyhow::{Context, Result};
use aya::{Ebpf, maps::Array};
use fdtrace_common::stack::{
    CALLS_MAX, OPENS_BY_COMMAND, OPENS_IF_NEW, OPENS_OTHER, OPENS_PAIR, OPENS_RESULT, OPENS_SOCKETS,
};

use crate::ground::call;

/// Calls by how they give new fds. Not among them: `bpf`, `ioctl` and `prctl`, of whose results most are no fds,
/// `clone3`, which writes its pidfd to a place of its own, and those that receive messages.
const OPENING: &[(u32, &[&str])] = &[
    (
        OPENS_RESULT,
        &[
            "accept",
            "accept4",
            "creat",
            "dup",
            "epoll_create",
            "epoll_create1",
            "eventfd",
            "eventfd2",
            "fanotify_init",
            "fsmount",
            "fsopen",
            "fspick",
            "inotify_init",
            "inotify_init1",
            "io_uring_setup",
            "landlock_create_ruleset",
            "memfd_create",
            "memfd_secret",
            "mq_open",
            "open",
            "open_by_handle_at",
            "open_tree",
            "openat",
            "openat2",
            "perf_event_open",
            "pidfd_getfd",
            "pidfd_open",
            "socket",
            "timerfd_create",
            "userfaultfd",
        ],
    ),
    (OPENS_IF_NEW, &["signalfd", "signalfd4"]),
    (OPENS_OTHER, &["dup2", "dup3"]),
    (OPENS_BY_COMMAND, &["fcntl"]),
    (OPENS_PAIR, &["pipe", "pipe2"]),
    (OPENS_SOCKETS, &["socketpair"]),
];

/// Each call that this architecture has, and how it gives new fds.
fn numbers() -> impl Iterator<Item = (u32, u32)> {
    let of_kind = |(how, names): &'static (u32, &[&str])| {
        let numbers = names.iter().filter_map(|name| call::number(name));
        numbers.map(|number| (number, *how))
    };
    let all = OPENING.iter().flat_map(of_kind);
    all.filter(|(number, _)| *number < CALLS_MAX)
}

/// Has the program at the end of calls know them.
pub(super) fn fill(ebpf: &mut Ebpf) -> Result<()> {
    let map = ebpf.map_mut("OPENING_CALLS");
    let map = map.context("no map OPENING_CALLS in the kernel object")?;
    let mut map: Array<_, u32> = Array::try_from(map)?;
    for (number, how) in numbers() {
        let set = map.set(number, how, 0);
        set.context("writing the map OPENING_CALLS")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn calls_are_known_by_their_numbers_and_each_in_one_way() {
        let all: Vec<_> = numbers().collect();
        let by_number: BTreeMap<u32, u32> = all.iter().copied().collect();
        assert_eq!(by_number.len(), all.len());
        let how = |name| by_number.get(&call::number(name).unwrap()).copied();
        assert_eq!(how("openat"), Some(OPENS_RESULT));
        assert_eq!(how("dup3"), Some(OPENS_OTHER));
        assert_eq!(how("socketpair"), Some(OPENS_SOCKETS));
        assert_eq!(how("read"), None);
        // Names that neither architecture has would be misspelt.
        let names = OPENING.iter().flat_map(|(_, names)| *names);
        for name in names {
            let is_known = call::number(name).is_some() || call::compat_number(name).is_some();
            assert!(is_known, "{name}");
        }
    }
}
