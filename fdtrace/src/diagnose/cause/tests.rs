use fdtrace_common::alarm::CALL_COMPAT;

use super::*;
use crate::{ground::host::Settings, stream::decode::samples};

const EBADF: u32 = 9;
/// A host with files to spare.
const IDLE: Host = Host {
    files: Some(5_000),
    file_max: Some(1_000_000),
    settings: Settings {
        nr_open: None,
        inotify_instances: None,
        fanotify_groups: None,
        pipe_pages: None,
    },
};

/// A failure of `call` in a table of 64 slots, at a soft limit of 64, every number taken.
fn failure(hook: u32, call: &str) -> Alarm {
    let mut alarm = samples::alarm();
    alarm.key.call = call::number(call).unwrap_or_else(|| panic!("no call {call}"));
    alarm.key.hook = hook;
    alarm
}

/// `failure`, with `change` made to it.
fn but(hook: u32, call: &str, change: impl FnOnce(&mut Alarm)) -> Alarm {
    let mut alarm = failure(hook, call);
    change(&mut alarm);
    alarm
}

/// The table at `used` of a soft limit of `soft`, with `size` slots.
fn table(used: u32, soft: u32, size: u32) -> impl FnOnce(&mut Alarm) {
    move |alarm| {
        alarm.used = Some(used);
        alarm.soft = u64::from(soft);
        alarm.key.limit = soft;
        alarm.max_fds = size;
    }
}

/// Has this architecture no such call? Newer ones never had `open`, `fork`, `dup2` and their like.
fn is_absent(call: &str) -> bool {
    call::number(call).is_none()
}

/// Cause and silence, on a host with files to spare.
fn told(alarm: &Alarm) -> (Cause, Option<Silent>) {
    (cause(alarm, || IDLE), silent(alarm))
}

fn unasked() -> Host {
    panic!("the host was asked although the record tells enough")
}

#[test]
fn alloc_fd_is_the_limit_of_the_process_in_every_call() {
    let calls = [
        "openat",
        "socket",
        "accept4",
        "pipe2",
        "socketpair",
        "dup",
        "epoll_create1",
        "memfd_create",
        "fcntl",
        "clone3",
        "ioctl",
        "inotify_init1",
        "mq_open",
        "fanotify_init",
    ];
    for call in calls {
        let alarm = failure(HOOK_ALLOC_FD, call);
        assert_eq!(cause(&alarm, unasked), Cause::RlimitNofile, "{call}");
        assert_eq!(silent(&alarm), None, "{call}");
    }
}

#[test]
fn alloc_fd_tells_which_limit() {
    let dupfd = |least: u64, change: &dyn Fn(&mut Alarm)| {
        but(HOOK_ALLOC_FD, "fcntl", |alarm| {
            alarm.arguments = [3, 0, least];
            change(alarm);
        })
    };
    let cases = [
        (
            "limit above the table: nr_open",
            but(HOOK_ALLOC_FD, "openat", table(64, 1024, 64)),
            Cause::NrOpen,
        ),
        (
            "limit lowered below the table",
            but(HOOK_ALLOC_FD, "openat", table(200, 100, 256)),
            Cause::RlimitNofile,
        ),
        (
            "one of two numbers put back",
            but(HOOK_ALLOC_FD, "pipe2", table(63, 64, 64)),
            Cause::RlimitNofile,
        ),
        (
            "count unknown",
            but(HOOK_ALLOC_FD, "openat", |alarm| {
                table(0, 1_000_000, 1 << 20)(alarm);
                alarm.used = None;
            }),
            Cause::RlimitNofile,
        ),
        (
            "F_DUPFD above the free numbers",
            dupfd(60, &|alarm| alarm.used = Some(8)),
            Cause::DupfdMinimum,
        ),
        (
            "F_DUPFD of a full table",
            dupfd(60, &|_| ()),
            Cause::RlimitNofile,
        ),
        (
            "F_DUPFD from 0",
            dupfd(0, &|alarm| alarm.used = Some(63)),
            Cause::RlimitNofile,
        ),
        (
            "F_DUPFD_CLOEXEC",
            dupfd(60, &|alarm| {
                alarm.used = Some(8);
                alarm.arguments[1] = 1030;
            }),
            Cause::DupfdMinimum,
        ),
        (
            "F_DUPFD with rubbish above its int",
            dupfd(60, &|alarm| {
                alarm.used = Some(8);
                alarm.arguments[1] = 0xdead_beef_0000_0406;
            }),
            Cause::DupfdMinimum,
        ),
        (
            "another fcntl",
            dupfd(60, &|alarm| {
                alarm.used = Some(63);
                alarm.arguments[1] = 7;
            }),
            Cause::RlimitNofile,
        ),
        (
            "F_DUPFD that fs.nr_open stops",
            dupfd(300, &table_of_8_at_1024),
            Cause::NrOpen,
        ),
        (
            "F_DUPFD of the last number that a table can hold",
            dupfd((1 << 27) - 1, &|alarm| table(8, 1 << 30, 64)(alarm)),
            Cause::NrOpen,
        ),
        (
            "F_DUPFD of a number that no table can hold",
            dupfd(200_000_000, &|alarm| table(8, 1 << 30, 64)(alarm)),
            Cause::TableSize,
        ),
        (
            "the largest table there is, full",
            but(HOOK_ALLOC_FD, "openat", |alarm| {
                table(0, 1 << 30, 1 << 27)(alarm);
                alarm.used = None;
            }),
            Cause::TableSize,
        ),
    ];
    for (what, alarm, expected) in cases {
        assert_eq!(cause(&alarm, unasked), expected, "{what}");
    }
}

fn table_of_8_at_1024(alarm: &mut Alarm) {
    table(8, 1024, 64)(alarm);
}

#[test]
fn a_supervisors_failure_is_its_targets() {
    let replaced = |errno| {
        told(&but(HOOK_REPLACE, "getppid", |alarm| {
            alarm.key.errno = errno;
        }))
    };
    let silent = Some(Silent::SeccompAddfd);
    assert_eq!(replaced(EBADF), (Cause::RlimitNofile, silent));
    assert_eq!(replaced(24), (Cause::NrOpen, silent));
    // Whatever call it is that the supervisor does in its place.
    for call in ["getppid", "openat", "recvmsg", "ioctl"] {
        let alarm = but(HOOK_ALLOC_FD, call, |alarm| alarm.by_supervisor = true);
        assert_eq!(told(&alarm), (Cause::RlimitNofile, silent), "{call}");
    }
}

#[test]
fn unix_sockets_and_a_rings_files_have_limits_of_their_own() {
    for call in ["socket", "socketpair", "connect"] {
        let alarm = failure(HOOK_UNIX_SOCKET, call);
        assert_eq!(told(&alarm), (Cause::UnixSockets, None), "{call}");
    }
    let in_io_uring = |hook| but(hook, "openat", |alarm| alarm.key.call = CALL_IO_URING);
    let silent = Some(Silent::IoUringCqe);
    let socket = told(&in_io_uring(HOOK_UNIX_SOCKET));
    assert_eq!(socket, (Cause::UnixSockets, silent));
    let file = told(&in_io_uring(HOOK_RING_FILE));
    assert_eq!(file, (Cause::IoUringFiles, silent));
    assert!(!Cause::UnixSockets.is_fd_limit());
}

#[test]
fn hooks_with_one_cause() {
    for call in ["clone", "fork", "unshare", "execve", "close_range"] {
        if is_absent(call) {
            continue;
        }
        assert_eq!(
            told(&failure(HOOK_DUP_FD, call)),
            (Cause::NrOpen, None),
            "{call}"
        );
    }
    for call in ["openat", "socket", "pipe2", "accept4"] {
        let alarm = failure(HOOK_ALLOC_FILE, call);
        assert_eq!(cause(&alarm, unasked), Cause::FileMax, "{call}");
        assert_eq!(silent(&alarm), None, "{call}");
    }
    assert_eq!(told(&failure(99, "openat")).0, Cause::Other);
}

#[test]
fn own_limits_by_their_hook() {
    let cases = [
        ("inotify_init", Cause::InotifyInstances),
        ("inotify_init1", Cause::InotifyInstances),
        ("fanotify_init", Cause::FanotifyGroups),
        ("mq_open", Cause::MqueueBytes),
        ("io_uring_register", Cause::IoUringFiles),
        ("pipe", Cause::PipePages),
        ("pipe2", Cause::PipePages),
    ];
    for (call, expected) in cases {
        if is_absent(call) {
            continue;
        }
        let alarm = failure(HOOK_OWN_LIMIT, call);
        assert_eq!(cause(&alarm, unasked), expected, "{call}");
        assert_eq!(silent(&alarm), None, "{call}");
        assert!(!expected.is_fd_limit(), "{call}");
    }
}

#[test]
fn what_a_file_server_said_is_its_own_in_every_call() {
    for call in [
        "openat",
        "openat2",
        "execve",
        "open_by_handle_at",
        "clone",
        "ioctl",
    ] {
        let told = told(&failure(HOOK_FILE_SERVER, call));
        assert_eq!(told, (Cause::FileServer, None), "{call}");
    }
    let in_io_uring = but(HOOK_FILE_SERVER, "openat", |alarm| {
        alarm.key.call = CALL_IO_URING;
    });
    let silent = Some(Silent::IoUringCqe);
    assert_eq!(told(&in_io_uring), (Cause::FileServer, silent));
}

/// `get_anon_bdev`: most of all mounts, but btrfs takes a number when a subvolume is first looked at.
#[test]
fn numbers_of_file_systems_are_no_file_server() {
    for call in ["mount", "fsconfig", "unshare", "clone", "openat", "execve"] {
        let told = told(&failure(HOOK_OWN_LIMIT, call));
        assert_eq!(told, (Cause::Other, None), "{call}");
    }
}

#[test]
fn dup2_above_what_can_be_had() {
    let dup2 = |hook, call, target: u64, soft| {
        but(hook, call, |alarm| {
            alarm.key.errno = EBADF;
            alarm.arguments[1] = target;
            alarm.soft = soft;
        })
    };
    for (hook, call) in [
        (HOOK_DUP3, "dup2"),
        (HOOK_DUP3, "dup3"),
        (HOOK_SYS_EXIT, "dup2"),
        (HOOK_SYS_EXIT, "dup3"),
    ] {
        if is_absent(call) {
            continue;
        }
        let told = |target, soft| told(&dup2(hook, call, target, soft));
        let silent = Some(Silent::Dup2Ebadf);
        assert_eq!(told(64, 64), (Cause::RlimitNofile, silent));
        assert_eq!(told(70_000, 64), (Cause::RlimitNofile, silent));
        assert_eq!(told(500, 1024), (Cause::NrOpen, silent));
        assert_eq!(told(1 << 27, 1 << 30), (Cause::TableSize, silent));
        // The kernel takes an unsigned int.
        assert_eq!(told(0xffff_0000_0000_01f4, 1024), (Cause::NrOpen, silent));
    }
}

#[test]
fn what_no_process_is_told() {
    let in_io_uring = |hook| but(hook, "openat", |alarm| alarm.key.call = CALL_IO_URING);
    let ioctl = |command| but(HOOK_ALLOC_FD, "ioctl", |alarm| alarm.arguments[1] = command);
    let cases = [
        (in_io_uring(HOOK_ALLOC_FD), Some(Silent::IoUringCqe)),
        (in_io_uring(HOOK_ALLOC_FILE), Some(Silent::IoUringCqe)),
        (failure(HOOK_ALLOC_FD, "recvmsg"), Some(Silent::MsgCtrunc)),
        (failure(HOOK_ALLOC_FD, "recvmmsg"), Some(Silent::MsgCtrunc)),
        (failure(HOOK_ALLOC_FD, "recvfrom"), None),
        (ioctl(0xc030_6201), Some(Silent::Binder)),
        // Where the C library takes the command as an int, its sign is extended.
        (ioctl(0xffff_ffff_c030_6201), Some(Silent::Binder)),
        (ioctl(0xc018_2103), None),
        (failure(HOOK_SYS_EXIT, "recvmsg"), None),
        (failure(HOOK_SYS_EXIT, "ioctl"), None),
    ];
    for (alarm, expected) in cases {
        let call = call::name(alarm.key.call);
        assert_eq!(silent(&alarm), expected, "{call} {:x?}", alarm.arguments);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_of_32_bits_have_the_same_silences() {
    // recvmsg, recvmmsg and recvmmsg_time64 of arch/x86/entry/syscalls/syscall_32.tbl.
    for number in [372, 337, 417] {
        let alarm = but(HOOK_ALLOC_FD, "openat", |alarm| {
            alarm.key.call = number | CALL_COMPAT;
        });
        assert_eq!(silent(&alarm), Some(Silent::MsgCtrunc), "{number}");
    }
    let fcntl64 = but(HOOK_ALLOC_FD, "openat", |alarm| {
        alarm.key.call = 0xdd | CALL_COMPAT;
        alarm.arguments = [3, 0, 60];
        alarm.used = Some(8);
    });
    assert_eq!(cause(&fcntl64, unasked), Cause::DupfdMinimum);
}

/// The census backend sees results of calls, and the table as it is afterwards.
#[test]
fn census_tells_limits_apart_by_call_and_table() {
    let full = (64, 64, 64);
    let spare = (10, 1024, 64);
    let cases = [
        // A full table is the reason, whatever the call.
        ("openat", full, Cause::RlimitNofile),
        ("accept4", full, Cause::RlimitNofile),
        ("inotify_init1", full, Cause::RlimitNofile),
        ("mq_open", full, Cause::RlimitNofile),
        ("openat", (200, 100, 256), Cause::RlimitNofile),
        // Two numbers wanted, the first put back.
        ("pipe2", (63, 64, 64), Cause::RlimitNofile),
        ("socketpair", (63, 64, 64), Cause::RlimitNofile),
        // Another thread has closed some since.
        ("accept4", (1020, 1024, 1024), Cause::RlimitNofile),
        ("openat", (1020, 1024, 1024), Cause::RlimitNofile),
        ("inotify_init1", (1020, 1024, 1024), Cause::InotifyInstances),
        // fs.nr_open: full below the limit, or a copy of the table, which no other limit stops.
        ("openat", (64, 1024, 64), Cause::NrOpen),
        ("pipe2", (63, 1024, 64), Cause::NrOpen),
        ("fork", spare, Cause::NrOpen),
        ("fork", full, Cause::NrOpen),
        ("unshare", full, Cause::NrOpen),
        ("execve", full, Cause::NrOpen),
        ("close_range", spare, Cause::NrOpen),
        ("clone", full, Cause::NrOpen),
        ("clone3", spare, Cause::NrOpen),
        // False leads, fds being to spare.
        ("inotify_init", spare, Cause::InotifyInstances),
        ("inotify_init1", spare, Cause::InotifyInstances),
        ("inotify_init1", (63, 64, 64), Cause::InotifyInstances),
        ("fanotify_init", spare, Cause::FanotifyGroups),
        ("mq_open", spare, Cause::MqueueBytes),
        ("io_uring_register", spare, Cause::IoUringFiles),
        ("open", spare, Cause::FileServer),
        ("openat", spare, Cause::FileServer),
        ("openat2", spare, Cause::FileServer),
        ("creat", spare, Cause::FileServer),
        ("ioctl", spare, Cause::Other),
        ("mount", spare, Cause::Other),
        ("fcntl", spare, Cause::Other),
    ];
    for (call, (used, soft, size), expected) in cases {
        if is_absent(call) {
            continue;
        }
        let alarm = but(HOOK_SYS_EXIT, call, table(used, soft, size));
        let found = cause(&alarm, unasked);
        assert_eq!(found, expected, "{call} at {used} of {soft}, {size} slots");
    }
}

#[test]
fn census_knows_dupfd_and_pidfd_by_their_arguments() {
    let with = |call, arguments, (used, soft, size)| {
        let alarm = but(HOOK_SYS_EXIT, call, |alarm| {
            alarm.arguments = arguments;
            table(used, soft, size)(alarm);
        });
        cause(&alarm, unasked)
    };
    let f_dupfd_60 = [3, 0, 60];
    assert_eq!(with("fcntl", f_dupfd_60, (8, 64, 64)), Cause::DupfdMinimum);
    assert_eq!(with("fcntl", f_dupfd_60, (61, 64, 64)), Cause::DupfdMinimum);
    assert_eq!(with("fcntl", f_dupfd_60, (64, 64, 64)), Cause::RlimitNofile);
    assert_eq!(with("fcntl", [3, 0, 300], (8, 1024, 64)), Cause::NrOpen);
    let clone_pidfd = [0x1000, 0, 0];
    assert_eq!(
        with("clone", clone_pidfd, (64, 64, 64)),
        Cause::RlimitNofile
    );
    assert_eq!(with("clone", clone_pidfd, (8, 64, 64)), Cause::NrOpen);
}

/// A table of more than 65536 slots is not counted in the kernel.
#[test]
fn census_without_a_count_looks_at_the_size() {
    let uncounted = |call, soft, size| {
        let alarm = but(HOOK_SYS_EXIT, call, |alarm| {
            table(0, soft, size)(alarm);
            alarm.used = None;
        });
        cause(&alarm, unasked)
    };
    assert_eq!(uncounted("accept4", 1 << 20, 1 << 20), Cause::RlimitNofile);
    assert_eq!(uncounted("accept4", 1 << 20, 1 << 17), Cause::NrOpen);
    assert_eq!(
        uncounted("inotify_init1", 1 << 20, 1 << 17),
        Cause::InotifyInstances
    );
}

#[test]
fn census_enfile_is_the_host_or_a_pipe_or_a_unix_socket() {
    let enfile = |call, host| {
        let alarm = but(HOOK_SYS_EXIT, call, |alarm| {
            alarm.key.errno = ENFILE;
            table(10, 1024, 64)(alarm);
        });
        cause(&alarm, || host)
    };
    let host = |files, file_max| Host {
        files,
        file_max,
        ..IDLE
    };
    let out = host(Some(999_990), Some(1_000_000));
    let hidden_by_many_cpus = host(Some(950_000), Some(1_000_000));
    let small = host(Some(1_000), Some(1_060));
    for call in ["pipe", "pipe2"] {
        if is_absent(call) {
            continue;
        }
        assert_eq!(enfile(call, IDLE), Cause::PipePages, "{call}");
        for host in [out, hidden_by_many_cpus, small, Host::default()] {
            assert_eq!(enfile(call, host), Cause::FileMax, "{call} {host:?}");
        }
    }
    for call in ["openat", "socket", "accept4"] {
        assert_eq!(enfile(call, IDLE), Cause::FileMax, "{call}");
        assert_eq!(enfile(call, out), Cause::FileMax, "{call}");
    }
    let unix = |call, host| {
        let alarm = but(HOOK_SYS_EXIT, call, |alarm| {
            alarm.key.errno = ENFILE;
            alarm.arguments[0] = 1;
        });
        cause(&alarm, || host)
    };
    for call in ["socket", "socketpair"] {
        assert_eq!(unix(call, IDLE), Cause::FileMax, "{call}");
        assert_eq!(unix(call, out), Cause::FileMax, "{call}");
        let twice = host(Some(2_000), Some(1_000));
        assert_eq!(unix(call, twice), Cause::UnixSockets, "{call}");
    }
    // It makes no file.
    assert_eq!(unix("connect", out), Cause::UnixSockets);
    let no_limit = host(Some(u64::MAX), Some(u64::MAX));
    assert_eq!(enfile("pipe", no_limit), Cause::FileMax);
}

#[test]
fn fd_limits_are_told_from_others() {
    let fd_limits = [
        Cause::RlimitNofile,
        Cause::NrOpen,
        Cause::TableSize,
        Cause::FileMax,
        Cause::DupfdMinimum,
    ];
    assert!(fd_limits.into_iter().all(Cause::is_fd_limit));
    assert!(!Cause::FileServer.is_fd_limit() && !Cause::Other.is_fd_limit());
}
