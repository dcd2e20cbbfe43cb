//! Programs that set their own fd limit, or size themselves by it when they start. A table of data: what a higher
//! limit does for each as it runs, and what sets it for good.

/// What a higher limit does for a program that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// All that it should.
    Whole,
    /// Calls succeed again, but what it has sized stays as it is.
    Part,
    /// As in [`Effect::Part`] where it has run out: then the limit is below what it has sized itself for, as when it was
    /// lowered since. Nothing where it is only near its limit.
    UpToOwn,
    /// It has tables as large as its hard limit was: fds beyond it are out of their bounds.
    UpToHard,
}

/// A program. `{soft}` in texts stands for the soft limit to set.
#[derive(Debug)]
pub struct Program {
    /// Its executables, without folder; a version may follow.
    names: &'static [&'static str],
    /// What a higher limit does for it as it runs.
    pub effect: Effect,
    /// What it does at its start, as the reason for `effect`.
    pub at_start: &'static str,
    /// Its own setting by which it gets more, and what makes it read that.
    pub setting: &'static str,
    /// The setting gives the process its limit as well: what its parent or its unit gives does not matter.
    pub sets_limit: bool,
}

/// Each with the place in its source.
const PROGRAMS: &[Program] = &[
    // `ngx_worker_process_init`, src/os/unix/ngx_process_cycle.c: while still root, so above the hard limit too.
    Program {
        names: &["nginx", "openresty", "angie"],
        effect: Effect::Whole,
        at_start: "workers that are started later, as by a reload, have the old limit again",
        setting: "`worker_rlimit_nofile {soft};` in nginx.conf, and worker_connections below it; then `nginx -s reload`",
        sets_limit: true,
    },
    // `fpm_unix_init_child`, sapi/fpm/fpm/fpm_unix.c: before it gives up root.
    Program {
        names: &["php-fpm"],
        effect: Effect::Whole,
        at_start: "workers that are started later have the old limit again",
        setting: "`rlimit_files = {soft}` in the pool's configuration; then reload php-fpm",
        sets_limit: true,
    },
    // `global.maxsock`, from maxconn at the start; `listener_accept`, src/listener.c: refuses fds from there on.
    Program {
        names: &["haproxy"],
        effect: Effect::UpToOwn,
        at_start: "it takes no fds above a number that it has computed from maxconn",
        setting: "`maxconn` below `global` in haproxy.cfg (it sets its own limit by it), then restart",
        sets_limit: true,
    },
    // `adjustOpenFilesLimit`, src/server.c; `updateMaxclients`, src/config.c: CONFIG SET raises the limit with it.
    Program {
        // Debian's redis-server is a link to redis-check-rdb, and /proc shows what it leads to.
        names: &[
            "redis-server",
            "redis-check-rdb",
            "valkey-server",
            "valkey-check-rdb",
            "keydb-server",
        ],
        effect: Effect::UpToOwn,
        at_start: "it takes no more clients than maxclients, which it has set by its limit at its start",
        setting: "`CONFIG SET maxclients` at once (it raises its limit with it, up to the hard one), and `maxclients` in \
                  redis.conf",
        sets_limit: true,
    },
    // `conn_init`, memcached.c: one entry for each fd up to `rlim_max`; `main`: setrlimit by -c.
    Program {
        names: &["memcached"],
        effect: Effect::UpToHard,
        at_start: "it has a table with a place for each fd up to the hard limit that it started with",
        setting: "`-c` with more connections (it sets its own limit by it), then restart",
        sets_limit: true,
    },
    // `adjust_related_options`, sql/mysqld.cc: max_connections and the table caches are lowered to fit the limit.
    Program {
        names: &["mariadbd", "mysqld"],
        effect: Effect::Part,
        at_start: "max_connections and table_open_cache stay what it made them at its start",
        setting: "`open_files_limit={soft}` below [mysqld] in my.cnf, with table_open_cache and max_connections as they \
                  should be; then restart",
        sets_limit: true,
    },
    // `set_max_safe_fds`, src/backend/storage/file/fd.c: by the postmaster, for all its backends.
    Program {
        names: &["postgres", "postmaster"],
        effect: Effect::Part,
        at_start: "a backend keeps no more data files open than the postmaster has counted at its start",
        setting: "`max_files_per_process` in postgresql.conf, and a limit above it where the postmaster is started; then \
                  restart",
        sets_limit: false,
    },
    // `os::init_2`, src/hotspot/os/linux/os_linux.cpp (MaxFDLimit); `init` and `getFdEntry`,
    // src/java.base/linux/native/libnet/linux_close.c: tables up to `rlim_max`.
    Program {
        names: &["java"],
        effect: Effect::UpToHard,
        at_start: "a JVM has tables with a place for each fd up to the hard limit that it started with",
        setting: "raise the hard limit where it is started, to which it raises its soft one, then restart",
        sets_limit: false,
    },
    // `PlatformInit`, src/node.cc.
    Program {
        names: &["node", "nodejs"],
        effect: Effect::Whole,
        at_start: "as Node does at its start, up to the hard limit",
        setting: "it raises its soft limit to the hard one: raise that where it is started",
        sets_limit: false,
    },
];

/// Programs in Go: os/rlimit.go since 1.19; syscall/rlimit.go since 1.21: children get the limit that there was.
static GO: Program = Program {
    names: &[],
    effect: Effect::Whole,
    at_start: "a program in Go raises its soft limit to the hard one; what it starts gets the one from before",
    setting: "it raises its soft limit to the hard one: raise that where it is started",
    sets_limit: false,
};

/// What is known of an executable, by its path. `is_go`: it is a program in Go.
#[must_use]
pub fn program(exe: Option<&[u8]>, is_go: bool) -> Option<&'static Program> {
    let known = exe.and_then(|exe| {
        let name = exe.rsplit(|byte| *byte == b'/').next()?;
        let name = std::str::from_utf8(name).ok()?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let is_version = |rest: &str| {
            rest.bytes()
                .all(|byte| byte.is_ascii_digit() || b".-".contains(&byte))
        };
        let is = |known: &&str| name.strip_prefix(known).is_some_and(is_version);
        PROGRAMS.iter().find(|program| program.names.iter().any(is))
    });
    known.or(is_go.then_some(&GO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_file_and_its_language() {
        let effect = |exe: &str| program(Some(exe.as_bytes()), false).map(|program| program.effect);
        assert_eq!(effect("/usr/sbin/nginx"), Some(Effect::Whole));
        assert_eq!(effect("/usr/sbin/php-fpm8.2"), Some(Effect::Whole));
        assert_eq!(effect("/usr/sbin/haproxy (deleted)"), Some(Effect::UpToOwn));
        assert_eq!(effect("/opt/jdk/bin/java"), Some(Effect::UpToHard));
        assert_eq!(effect("/usr/bin/redis-check-rdb"), Some(Effect::UpToOwn));
        assert_eq!(effect("/usr/bin/javac"), None);
        assert_eq!(effect("/usr/bin/nginx/x"), None);
        assert_eq!(program(Some(b"\xff"), false).map(|it| it.effect), None);
        assert!(program(None, true).is_some());
    }
}
