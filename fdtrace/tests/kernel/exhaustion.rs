//! Every way to run out of fds, and every false lead: what is said, and that it is said once.

use std::{
    fs::File,
    sync::{Arc, LazyLock, Mutex},
};

use fdtrace::probe::btf::Btf;
use libtest_mimic::Trial;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::{
    Setting, ensure, gym,
    tracer::{Tracer, failures, of_process},
    trial,
};

/// What a scenario must be reported as.
#[derive(Clone, Copy)]
struct Expected {
    scenario: &'static str,
    /// The call, where it is not the one that gym names.
    call: Option<&'static str>,
    errno: &'static str,
    cause: &'static str,
    silent: Option<&'static str>,
    /// The census backend, which sees only how calls end, sees this one.
    census: bool,
    /// Taken by the failing call itself while it fails, besides what gym has open.
    in_flight: u64,
}

/// A call that the process sees failing at its soft limit.
const fn at_limit(scenario: &'static str) -> Expected {
    Expected {
        scenario,
        call: None,
        errno: "EMFILE",
        cause: "rlimit_nofile",
        silent: None,
        census: true,
        in_flight: 0,
    }
}

const fn caused(scenario: &'static str, errno: &'static str, cause: &'static str) -> Expected {
    Expected {
        errno,
        cause,
        ..at_limit(scenario)
    }
}

const fn silent(scenario: &'static str, silent: &'static str) -> Expected {
    Expected {
        silent: Some(silent),
        census: false,
        ..at_limit(scenario)
    }
}

const EXPECTED: &[Expected] = &[
    at_limit("openat"),
    at_limit("socket"),
    at_limit("accept4"),
    Expected {
        in_flight: 1,
        ..at_limit("pipe2")
    },
    Expected {
        in_flight: 1,
        ..at_limit("socketpair")
    },
    at_limit("dup"),
    at_limit("epoll_create1"),
    at_limit("memfd_create"),
    at_limit("eventfd2"),
    at_limit("timerfd_create"),
    at_limit("signalfd4"),
    at_limit("inotify_at_limit"),
    at_limit("pidfd_open"),
    at_limit("clone3_pidfd"),
    at_limit("quick_exit"),
    at_limit("threads_of_own_table"),
    at_limit("exec_then_open"),
    caused("f_dupfd", "EMFILE", "dupfd_minimum"),
    caused("fork_nr_open", "EMFILE", "nr_open"),
    caused("open_nr_open", "EMFILE", "nr_open"),
    // The number is taken before the file is asked for.
    Expected {
        in_flight: 1,
        ..caused("file_max", "ENFILE", "file_max")
    },
    Expected {
        in_flight: 1,
        ..caused("file_max_socket", "ENFILE", "file_max")
    },
    silent("scm_rights", "msg_ctrunc"),
    Expected {
        call: Some("io_uring"),
        ..silent("io_uring_openat", "io_uring_cqe")
    },
    Expected {
        call: Some("io_uring"),
        ..silent("io_uring_accept", "io_uring_cqe")
    },
    Expected {
        census: true,
        ..silent("dup2", "dup2_ebadf")
    },
    Expected {
        census: true,
        ..silent("dup3", "dup2_ebadf")
    },
    // The kernel gives the target its fd while the supervisor is in the ioctl that fails.
    Expected {
        call: Some("getppid"),
        ..silent("seccomp_addfd", "seccomp_addfd")
    },
    Expected {
        call: Some("getppid"),
        ..silent("seccomp_addfd_above", "seccomp_addfd")
    },
    at_limit("seccomp_own_open"),
    Expected {
        call: Some("io_uring"),
        errno: "ENFILE",
        cause: "io_uring_files",
        ..silent("io_uring_full_table", "io_uring_cqe")
    },
    Expected {
        call: Some("io_uring"),
        errno: "ENFILE",
        cause: "io_uring_files",
        ..silent("io_uring_passed_file", "io_uring_cqe")
    },
    caused("inotify_instances", "EMFILE", "inotify_instances"),
    caused("fanotify_groups", "EMFILE", "fanotify_groups"),
    caused("mq_open", "EMFILE", "mqueue_bytes"),
    caused("pipe_pages", "ENFILE", "pipe_pages"),
    caused("io_uring_files", "EMFILE", "io_uring_files"),
];

/// What changes settings of the host that others would feel: in guests alone.
const IN_GUESTS: &[Expected] = &[
    caused("f_dupfd_far", "EMFILE", "table_size"),
    caused("unix_sockets", "ENFILE", "unix_sockets"),
];

/// What is expected of a FUSE file system whose server is out of fds. As far as the kernel's own
/// limits go all is well: the number is taken when the server is asked.
const FUSE: &[Expected] = &[
    server_out("fuse_open"),
    server_out("fuse_open_directory"),
    server_out("fuse_open_new"),
];

const fn server_out(scenario: &'static str) -> Expected {
    Expected {
        in_flight: 1,
        ..caused(scenario, "EMFILE", "file_server")
    }
}

/// Scenarios that are no exhaustion at all.
const UNSEEN: &[&str] = &["dup2_bad_source", "dup2_negative", "hold"];

/// How gym ends where the kernel does not offer something.
const SKIPPED: &str = "exit status: 3";
/// What older kernels do not have, or fail with another errno.
const IN_SOME_KERNELS: &[&str] = &[
    "io_uring_full_table",
    "io_uring_passed_file",
    "f_dupfd_far",
    "unix_sockets",
];

/// One fdtrace watches the whole host for all of these tests.
static TRACER: LazyLock<Mutex<Option<Arc<Tracer>>>> = LazyLock::new(Mutex::default);
/// The victims so far, with how often each has failed.
static VICTIMS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let in_guests = IN_GUESTS.iter().filter(|_| setting.is_guest);
    let mut trials: Vec<_> = EXPECTED
        .iter()
        .chain(in_guests)
        .map(|expected| {
            let setting = setting.clone();
            trial(format!("exhaustion::{}", expected.scenario), move || {
                check(*expected, &setting)
            })
        })
        .collect();
    trials.extend(UNSEEN.iter().map(|scenario| {
        let setting = setting.clone();
        trial(format!("exhaustion::unseen_{scenario}"), move || {
            check_unseen(scenario, &setting)
        })
    }));
    trials.extend(on_fuse(setting));
    let setting = setting.clone();
    trials.push(trial("exhaustion::hostile_name", {
        let setting = setting.clone();
        move || hostile_name(&setting)
    }));
    trials.push(trial("exhaustion::nothing_came_later", move || {
        nothing_came_later(&setting)
    }));
    trials
}

/// A kernel without FUSE has one test in place of three: that nothing much is said of it.
fn on_fuse(setting: &Setting) -> Vec<Trial> {
    if !is_fuse_offered() {
        let setting = setting.clone();
        let test = move || fuse_is_not_offered(&setting);
        return vec![trial("exhaustion::fuse_open_is_not_offered", test)];
    }
    let is_hidden = setting.sees_inside_calls() && !has_fuse_built_in();
    let check = |expected: &'static Expected| {
        let setting = setting.clone();
        let name = format!("exhaustion::{}", expected.scenario);
        let test = trial(name, move || check(*expected, &setting));
        if is_hidden {
            println!("skipped: {}: FUSE is a module here", test.name());
        }
        test.with_ignored_flag(is_hidden)
    };
    FUSE.iter().map(check).collect()
}

/// Opening the device loads the module where there is one.
fn is_fuse_offered() -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let missing = [Errno::NOENT, Errno::NODEV, Errno::NXIO];
    device.map_or_else(
        |error| Errno::from_io_error(&error).is_none_or(|errno| !missing.contains(&errno)),
        |_| true,
    )
}

fn has_fuse_built_in() -> bool {
    let btf = Btf::from_sys_fs();
    btf.is_ok_and(|btf| {
        btf.function("fuse_file_open")
            .is_ok_and(|found| found.is_some())
    })
}

fn fuse_is_not_offered(setting: &Setting) -> Result<(), String> {
    for expected in FUSE {
        let Err(error) = gym::run(expected.scenario, &[]) else {
            return Err(format!("gym has done {}", expected.scenario));
        };
        let is_skipped = error.contains(SKIPPED) && error.contains("/dev/fuse");
        ensure(is_skipped, || error)?;
    }
    let quiet = Tracer::start(&setting.backend, &[])?.stop()?.stderr;
    ensure(!quiet.contains("fuse"), || quiet)?;
    let verbose = Tracer::start(&setting.backend, &["-v"])?.stop()?.stderr;
    let line = "not looked for here: EMFILE of a FUSE server";
    ensure(
        verbose.contains(line) == setting.sees_inside_calls(),
        || verbose,
    )
}

fn tracer(setting: &Setting) -> Result<Arc<Tracer>, String> {
    let mut tracer = TRACER.lock().map_err(|_| "another test has panicked")?;
    if let Some(tracer) = &*tracer {
        return Ok(Arc::clone(tracer));
    }
    let started = Arc::new(Tracer::start(&setting.backend, &[])?);
    *tracer = Some(Arc::clone(&started));
    Ok(started)
}

/// Waits until everything that happened before is told: the records of all processes travel in one
/// ring, in order.
fn catch_up(tracer: &Tracer) -> Result<(), String> {
    let sentinel = gym::run("dup", &["--comm", "sentinel"])?;
    note(sentinel.pid, sentinel.failures)?;
    tracer.wait_for(|object| object["pid"] == sentinel.pid)?;
    Ok(())
}

fn note(pid: u64, failures: u64) -> Result<(), String> {
    VICTIMS
        .lock()
        .map_err(|_| "another test has panicked")?
        .push((pid, failures));
    Ok(())
}

fn check(expected: Expected, setting: &Setting) -> Result<(), String> {
    let tracer = tracer(setting)?;
    let facts = match gym::run(expected.scenario, &[]) {
        Err(error) if error.contains(SKIPPED) && IN_SOME_KERNELS.contains(&expected.scenario) => {
            println!("skipped: {}: {error}", expected.scenario);
            return Ok(());
        }
        facts => facts?,
    };
    let is_seen = expected.census || setting.sees_inside_calls();
    note(facts.pid, if is_seen { facts.failures } else { 0 })?;
    catch_up(&tracer)?;
    let seen = tracer.exhausted(facts.pid);
    if !is_seen {
        return ensure(seen.is_empty(), || {
            format!("seen by the census backend: {seen:#?}")
        });
    }
    ensure(facts.failures == 1, || {
        format!("{} failures", facts.failures)
    })?;
    let [object] = &seen[..] else {
        return Err(format!("{} objects: {seen:#?}", seen.len()));
    };
    let in_flight = if setting.sees_inside_calls() {
        expected.in_flight
    } else {
        0
    };
    let wanted = json!({
        "v": 1,
        "type": "exhausted",
        "tid": facts.tid,
        "comm": facts.comm,
        "call": expected.call.unwrap_or(&facts.call),
        "errno": expected.errno,
        "cause": expected.cause,
        "silent": expected.silent,
        "repeats": 0,
        "used": facts.used + in_flight,
        "open": facts.used,
    });
    differences(object, &wanted)?;
    let holders = object["holders"].as_array().map_or(&[][..], Vec::as_slice);
    let held = holders.iter().filter_map(|holder| holder["count"].as_u64());
    ensure(held.sum::<u64>() == facts.used, || {
        format!("holders {} of {}", object["holders"], facts.used)
    })?;
    // Too little time for anything but saying so, in tables that are full or came by fork.
    let verdict = object["verdict"]["kind"].as_str();
    ensure(
        matches!(verdict, None | Some("unknown" | "inherited")),
        || format!("verdict {}", object["verdict"]),
    )?;
    ensure(object["limit"]["soft"] == facts.soft, || {
        format!("limit {}", object["limit"])
    })?;
    let exe = object["exe"].as_str().unwrap_or_default();
    ensure(exe.starts_with('/') && exe.ends_with("/gym"), || {
        format!("exe {exe:?}")
    })?;
    let uid = object["uid"].as_u64();
    ensure(matches!(uid, Some(0 | 65534)), || format!("uid {uid:?}"))?;
    let cgroup = object["cgroup"].as_str().unwrap_or_default();
    ensure(cgroup.starts_with('/'), || format!("cgroup {cgroup:?}"))
}

/// Names every field of `wanted` that is otherwise in `object`.
fn differences(object: &Value, wanted: &Value) -> Result<(), String> {
    let fields = wanted.as_object().ok_or("an object")?;
    let wrong: Vec<_> = fields
        .iter()
        .filter(|(name, value)| object.get(name.as_str()) != Some(value))
        .map(|(name, value)| format!("{name}: {} instead of {value}", object[name.as_str()]))
        .collect();
    ensure(wrong.is_empty(), || wrong.join("; "))
}

fn check_unseen(scenario: &str, setting: &Setting) -> Result<(), String> {
    let tracer = tracer(setting)?;
    let facts = gym::run(scenario, &[])?;
    note(facts.pid, 0)?;
    catch_up(&tracer)?;
    let seen = tracer.exhausted(facts.pid);
    ensure(seen.is_empty(), || format!("{seen:#?}"))
}

/// The reader has parsed every line as JSON already; here the name is looked at.
fn hostile_name(setting: &Setting) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;

    let tracer = tracer(setting)?;
    let mut command = gym::command("openat");
    let name = b"\x1b[2J\n\"\\\xff\xfe}";
    command.arg("--comm").arg(std::ffi::OsStr::from_bytes(name));
    let facts = gym::Gym::start(command)?.finish()?;
    note(facts.pid, facts.failures)?;
    catch_up(&tracer)?;
    let seen = tracer.exhausted(facts.pid);
    let comm = seen.first().and_then(|object| object["comm"].as_str());
    let wanted = String::from_utf8_lossy(name);
    ensure(comm == Some(&*wanted), || {
        format!("{comm:?} instead of {wanted:?}")
    })
}

/// Ends the common fdtrace: what it held back until then must not change any victim's count.
fn nothing_came_later(setting: &Setting) -> Result<(), String> {
    let shared = tracer(setting)?;
    *TRACER.lock().map_err(|_| "another test has panicked")? = None;
    let tracer = Arc::into_inner(shared).ok_or("fdtrace is still in use")?;
    let ended = tracer.stop()?;
    ensure(ended.status.success(), || {
        format!("{}: {}", ended.status, ended.stderr)
    })?;
    let victims = VICTIMS.lock().map_err(|_| "another test has panicked")?;
    for (pid, wanted) in &*victims {
        let told = failures(&of_process(&ended.objects, *pid));
        ensure(told == *wanted, || {
            format!("process {pid}: {told} failures told, {wanted} made")
        })?;
    }
    let summary = ended.objects.last().ok_or("no objects at all")?;
    let lost = |place: &str| -> u64 {
        let losses = ended.objects.iter();
        let losses = losses.filter(|object| object["type"] == "loss" && object["where"] == place);
        losses.filter_map(|loss| loss["count"].as_u64()).sum()
    };
    // A kernel that preempts programs may skip calls (`storm` has the same): each is counted, and so is what does
    // not fit for want of them. No failure is among them, as seen above.
    let skipped = lost("skipped");
    let unfit = if skipped > 0 { lost("model") } else { 0 };
    let wanted = json!({ "type": "summary", "backend": setting.backend, "lost": skipped + unfit });
    differences(summary, &wanted).map_err(|wrong| format!("{wrong}: {}", ended.stderr))
}
