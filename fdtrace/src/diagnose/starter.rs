//! Programs that start others and pass their own fd limit on, and where each is told another one. A table of data.

/// Such a program.
#[derive(Debug)]
pub struct Starter {
    /// Its names, as the kernel has them: 15 bytes at most.
    names: &'static [&'static str],
    /// It reads commands, from a person or a script.
    pub is_shell: bool,
    /// What gives its children their limit.
    pub setting: &'static str,
    /// Where that is changed; `{soft}` and `{hard}` stand for the limits.
    pub change: &'static str,
}

const STARTERS: &[Starter] = &[
    Starter {
        names: &[
            "ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh",
        ],
        is_shell: true,
        setting: "ulimit -n",
        change: "`ulimit -Sn {soft}` before the program is started",
    },
    // Its setrlimit raises both limits and never lowers one (`set_rlimits_or_exit`, supervisor/options.py).
    Starter {
        names: &["supervisord"],
        is_shell: false,
        setting: "minfds",
        change: "`minfds={soft}` below [supervisord] in supervisord.conf, then restart supervisord itself: reloading \
                 and restarting the program change no limit",
    },
    Starter {
        names: &["runsv"],
        is_shell: false,
        setting: "chpst -o in its run script",
        change: "`chpst -o {soft}`, or `ulimit -Sn {soft}`, before the program in the service's run script",
    },
    Starter {
        names: &["s6-supervise"],
        is_shell: false,
        setting: "s6-softlimit -o in its run script",
        change: "`s6-softlimit -o {soft}` before the program in the service's run script",
    },
    Starter {
        names: &["supervise"],
        is_shell: false,
        setting: "softlimit -o in its run script",
        change: "`softlimit -o {soft}` before the program in the service's run script",
    },
];

/// What is known of a program of that name.
#[must_use]
pub fn starter(comm: &str) -> Option<&'static Starter> {
    STARTERS
        .iter()
        .find(|starter| starter.names.contains(&comm))
}
