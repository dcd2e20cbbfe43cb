//! The host's own limits, from /proc/sys.

use std::fs::read_to_string;

use crate::ground::host::{Host, Settings};

/// How many files the host has, and may have. Needs no free fd beyond one; unknown where there is
/// none.
#[must_use]
pub fn files() -> Host {
    let file_nr = read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let mut fields = file_nr.split_whitespace().map(|field| field.parse().ok());
    let files = fields.next().flatten();
    let file_max = fields.nth(1).flatten();
    Host {
        files,
        file_max,
        settings: Settings::default(),
    }
}

/// The same, and the limits that remedies go by.
#[must_use]
pub fn all() -> Host {
    let settings = Settings {
        nr_open: sysctl("fs/nr_open"),
        inotify_instances: sysctl("fs/inotify/max_user_instances"),
        fanotify_groups: sysctl("fs/fanotify/max_user_groups"),
        pipe_pages: sysctl("fs/pipe-user-pages-hard"),
    };
    Host {
        settings,
        ..files()
    }
}

/// One number under /proc/sys, such as `fs/nr_open`.
#[must_use]
pub fn sysctl(name: &str) -> Option<u64> {
    read_to_string(format!("/proc/sys/{name}"))
        .ok()?
        .trim()
        .parse()
        .ok()
}
