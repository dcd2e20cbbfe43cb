//! Facts for the tests of the formats.

use super::*;
use crate::ground::host::Settings;

/// Text that a process may give itself or its files, to nobody's good.
pub(crate) const HOSTILE: [&[u8]; 8] = [
    b"\x1b[2J\x1b[31mred",
    b"a\nfdtrace: all is well",
    b"\r\t\x00\x07\x7f",
    b"\xff\xfe\xc3",
    b"\"},{\"pid\":1,\"x\":\"",
    "\u{9b}31m\u{202e}gpj\u{2028}".as_bytes(),
    b"\\u001b\\x1b",
    b"",
];

/// A web service at its limit.
pub(crate) fn exhausted() -> Exhausted {
    Exhausted {
        time: "2026-11-22T08:15:30.123456789Z".parse().unwrap(),
        time_ns: 3_600_000_000_000,
        failure_time: "2026-11-22T08:15:30.123456789Z".parse().unwrap(),
        cause: Cause::RlimitNofile,
        silent: None,
        errno: "EMFILE",
        pid: 2231,
        tid: 2231,
        comm: b"python3".to_vec(),
        started_ns: 60_000_000_000,
        has_ended: false,
        exe: Some(b"/usr/bin/python3.11".to_vec()),
        uid: 33,
        cgroup: b"/system.slice/web.service".to_vec(),
        call: "openat".to_owned(),
        repeats: 0,
        soft: 1024,
        hard: 524_288,
        used: Some(1024),
        open: Some(1024),
        diagnosis: None,
        openers: Openers::default(),
        failed_in: FailedIn::default(),
        is_news: true,
        host: Some(Host {
            files: Some(9_000),
            file_max: Some(97_065),
            settings: Settings {
                nr_open: Some(1 << 20),
                inotify_instances: Some(128),
                fanotify_groups: Some(128),
                pipe_pages: Some(0),
            },
        }),
        named: Named::default(),
        whose: None,
        ends: Ends::default(),
        shared: None,
        asked_select: AskedSelect::default(),
        select: None,
    }
}

/// Three of them, lost there.
pub(crate) fn loss(place: Place) -> Loss {
    Loss {
        time: "2026-11-22T08:15:31Z".parse().unwrap(),
        place,
        count: 3,
        repaired: 0,
    }
}

/// The end of a minute.
pub(crate) fn summary() -> Summary {
    Summary {
        time: "2026-11-22T08:16:30Z".parse().unwrap(),
        backend: Backend::Census,
        duration_s: 60.25,
        records: 120,
        lost: 3,
        repaired: 0,
        exhausted: 61,
        failures: 48_272,
        programs: Some(vec![ProgramRuns {
            program: "fd_install".to_owned(),
            runs: 120,
            ns: 24_000,
        }]),
    }
}
