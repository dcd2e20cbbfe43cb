//! The host's own limits, and how much of them is used.

use serde::{Deserialize, Serialize};

/// What is known of the host at the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Files allocated, from fs.file-nr.
    pub files: Option<u64>,
    /// fs.file-max.
    pub file_max: Option<u64>,
    /// What remedies go by. Recordings of before tell none.
    #[serde(default)]
    pub settings: Settings,
}

/// Limits of the host; `None` where they are not known, or this kernel has no such setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `fs.nr_open`.
    pub nr_open: Option<u64>,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances: Option<u64>,
    /// `fs.fanotify.max_user_groups`.
    pub fanotify_groups: Option<u64>,
    /// fs.pipe-user-pages-hard, in pages.
    pub pipe_pages: Option<u64>,
}
