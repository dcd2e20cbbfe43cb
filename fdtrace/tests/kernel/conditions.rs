//! Bad conditions: fdtrace killed, short of fds itself, on a host without files, without BTF.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
};
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::{self, Gym},
    remedy::{Lowered, NR_OPEN},
    tracer::{self, Tracer},
    trial,
};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("conditions::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("killed_leaves_nothing", killed_leaves_nothing),
        test("ctrl_c_while_it_ends", ctrl_c_while_it_ends),
        test("at_its_own_fd_limit", at_its_own_fd_limit),
        test("leaks_at_its_own_fd_limit", leaks_at_its_own_fd_limit),
        test("record_at_its_own_fd_limit", record_at_its_own_fd_limit),
        test("kernel_log_lines", kernel_log_lines),
    ];
    if setting.is_first {
        trials.extend([
            test("once_ends_with_the_first", once_ends_with_the_first),
            test("once_without_any_is_status_1", once_without_any),
            test("closed_pipe_ends_quietly", closed_pipe_ends_quietly),
            test("text_is_harmless", text_is_harmless),
            test("banner_shows_the_fullest", banner_shows_the_fullest),
            test("doctor_and_force_agree", doctor_and_force_agree),
            test("without_btf", without_btf),
            test("with_btf_from_a_file", with_btf_from_a_file),
            test("without_cgroup_v2", without_cgroup_v2),
            test("in_a_pid_namespace", in_a_pid_namespace),
        ]);
    }
    if setting.is_guest {
        // Lowering the host's limit is for machines that nobody else works on.
        trials.push(test("on_a_host_without_files", on_a_host_without_files));
        trials.push(test(
            "nr_open_below_its_hard_limit",
            nr_open_below_its_hard_limit,
        ));
        if setting.is_last {
            // Cannot be undone: the last test of the last run.
            trials.push(test("locked_down", locked_down));
        }
    }
    trials
}

/// What of BPF's is in the kernel.
type Things = BTreeSet<(&'static str, u32)>;

/// To list them takes nothing but their numbers.
fn programs_and_links() -> Things {
    let programs = aya::programs::loaded_programs().flatten();
    let programs = programs.map(|program| ("program", program.id()));
    let links = aya::programs::loaded_links().flatten();
    programs
        .chain(links.map(|link| ("link", link.id())))
        .collect()
}

fn maps() -> Things {
    let maps = aya::maps::loaded_maps().flatten();
    maps.map(|map| ("map", map.id())).collect()
}

/// The process has ended, and with it the watch, when somebody presses Ctrl-C: the report is still being made.
fn ctrl_c_while_it_ends(setting: &Setting) -> Result<(), String> {
    for _ in 0..3 {
        let (mut victim, pid) = Gym::waiting("openat", &[""; 0])?;
        let tracer = Tracer::start(&setting.backend, &["--pid", &pid.to_string()])?;
        victim.release()?;
        victim.finish()?;
        tracer.wait_until_said("nothing is left to follow")?;
        let ended = tracer.stop()?;
        let types = ended.objects.iter().map(|object| &object["type"]);
        let types: Vec<_> = types.collect();
        ensure(types == ["exhausted", "summary"], || format!("{types:?}"))?;
    }
    Ok(())
}

fn killed_leaves_nothing(setting: &Setting) -> Result<(), String> {
    let before = (programs_and_links(), maps());
    let tracer = Tracer::start(&setting.backend, &[])?;
    let programs = &programs_and_links() - &before.0;
    let maps_of_it = &maps() - &before.1;
    ensure(programs.len() > 1 && maps_of_it.len() > 5, || {
        format!("fdtrace runs with {programs:?} and {maps_of_it:?} only")
    })?;
    tracer.kill()?;
    // In this order: whoever looks at a map of programs opens it, and when that is closed while the kernel
    // still empties it for the one before, it keeps it for ever (`prog_array_map_clear`, kernel/bpf/arraymap.c,
    // 5.10: a reference is taken for work that is under way already). With its programs, it has been emptied.
    until_gone(&programs, programs_and_links)?;
    until_gone(&maps_of_it, maps)
}

fn until_gone(things: &Things, all: impl Fn() -> Things) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = things & &all();
        if left.is_empty() {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || {
            format!("left behind: {left:?}")
        })?;
        // The kernel frees them after a grace period that nothing tells the end of.
        thread::sleep(Duration::from_millis(50));
    }
}

/// No call of fdtrace's own gets an fd any more.
fn without_fds(tracer: &Tracer) -> Result<(), String> {
    let pid = i32::try_from(tracer.pid()).ok().and_then(Pid::from_raw);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let set = prlimit(pid, Resource::Nofile, none);
    set.map(drop).map_err(|error| format!("prlimit: {error}"))
}

/// Looking up who is a child of whom fails each second, and ends nothing.
fn leaks_at_its_own_fd_limit(setting: &Setting) -> Result<(), String> {
    let own = std::process::id().to_string();
    let mut command = tracer::command();
    command.args(["leaks", "--json", "--older", "1s", "--interval", "1s"]);
    command.args(["-p", &own, "-f", "--backend", &setting.backend]);
    let tracer = Tracer::start_command(command)?;
    without_fds(&tracer)?;
    let line = "children of the processes asked for are left out: listing /proc";
    tracer.wait_until_said(line)?;
    let ended = tracer.stop()?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    let times = ended.stderr.matches(line).count();
    // At once, and what came after it at the end.
    ensure(times <= 2, || format!("said {times} times"))
}

/// What was recorded until then is a whole recording, although nothing can be compared at its end.
fn record_at_its_own_fd_limit(setting: &Setting) -> Result<(), String> {
    let path = std::env::temp_dir().join(format!("fdtrace-no-fds-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut command = tracer::command();
    command.args(["record", "--backend", &setting.backend, "-o"]);
    command.arg(&path);
    let tracer = Tracer::start_command(command)?;
    without_fds(&tracer)?;
    let facts = gym::run("openat", &[])?;
    let ended = tracer.stop()?;
    ensure(ended.status.success(), || ended.stderr.clone())?;
    ensure(ended.stderr.contains("without a comparison"), || {
        ended.stderr.clone()
    })?;
    let mut replay = tracer::command();
    replay.args(["--json", "--replay"]).arg(&path);
    let replayed = replay.output().map_err(|error| error.to_string())?;
    let _ = fs::remove_file(&path);
    let said = String::from_utf8_lossy(&replayed.stderr);
    ensure(
        replayed.status.success() && !said.contains("cut off"),
        || said.clone().into_owned(),
    )?;
    let pid = format!("\"pid\":{},", facts.pid);
    let reports = String::from_utf8_lossy(&replayed.stdout);
    ensure(reports.contains(&pid), || reports.clone().into_owned())
}

fn at_its_own_fd_limit(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    without_fds(&tracer)?;
    let facts = gym::run("openat", &[])?;
    let object = tracer.wait_for(|object| object["pid"] == facts.pid)?;
    ensure(object["used"] == facts.used, || object.to_string())?;
    let ended = tracer.stop()?;
    ensure(ended.status.success(), || ended.stderr)
}

/// With -vv the programs carry their log lines, and the verifier still takes them.
fn kernel_log_lines(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["-vv", "-n", "gym"])?;
    let facts = gym::run("openat", &[])?;
    tracer.wait_for(|object| object["pid"] == facts.pid)?;
    let ended = tracer.stop()?;
    let wanted = format!("process {} failure 1", facts.pid);
    ensure(ended.stderr.contains(&wanted), || {
        format!("no {wanted:?} in {}", ended.stderr)
    })
}

fn once_ends_with_the_first(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["--once", "-n", "gym", "-d", "5m"])?;
    gym::run("openat", &[])?;
    let ended = tracer.wait()?;
    let kinds: Vec<_> = ended
        .objects
        .iter()
        .map(|object| object["type"].clone())
        .collect();
    ensure(kinds == ["exhausted", "summary"], || format!("{kinds:?}"))?;
    ensure(ended.status.code() == Some(0), || ended.status.to_string())
}

fn once_without_any(setting: &Setting) -> Result<(), String> {
    let own = std::process::id().to_string();
    let tracer = Tracer::start(&setting.backend, &["--once", "-d", "200ms", "-p", &own])?;
    let ended = tracer.wait()?;
    ensure(ended.status.code() == Some(1), || ended.status.to_string())
}

fn closed_pipe_ends_quietly(setting: &Setting) -> Result<(), String> {
    let mut watch = watch(setting, &["--json"])?;
    drop(watch.stdout.take());
    gym::run("openat", &[])?;
    let status = watch.wait().map_err(|error| error.to_string())?;
    ensure(status.code() == Some(0), || status.to_string())
}

/// A running fdtrace that is armed, with its stdout in a pipe.
fn watch(setting: &Setting, arguments: &[&str]) -> Result<std::process::Child, String> {
    let mut command = tracer::command();
    command
        .args(["--backend", &setting.backend])
        .args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("starting fdtrace: {error}"))?;
    let stderr = child.stderr.take().ok_or("no stderr")?;
    let mut lines = BufReader::new(stderr).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    ensure(first.contains("watching"), || {
        format!("fdtrace did not start: {first}")
    })?;
    thread::spawn(move || lines.for_each(drop));
    Ok(child)
}

fn text_is_harmless(setting: &Setting) -> Result<(), String> {
    let mut watch = watch(setting, &["--once", "-n", "hostile"])?;
    let mut victim = gym::command("openat");
    let name = std::ffi::OsStr::from_bytes(b"\x1b]0;hostile\x07\n\xff");
    victim.arg("--comm").arg(name);
    Gym::start(victim)?.finish()?;
    let mut text = Vec::new();
    let mut stdout = watch.stdout.take().ok_or("no stdout")?;
    stdout
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    watch.wait().map_err(|error| error.to_string())?;
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    let lines: Vec<_> = text.lines().collect();
    // The header, the report, and labelled lines. How many kinds of holders there are depends on what gym's standard
    // fds are here.
    let (head, below) = lines.split_at_checked(2).ok_or_else(|| text.clone())?;
    let is_indented = below.iter().all(|line| line.starts_with("  "));
    let are_few = (7..=11).contains(&below.len());
    let is_whole = head[0].starts_with("TIME") && is_indented && are_few;
    ensure(is_whole, || format!("{lines:#?}"))?;
    ensure(lines[1].contains("\\x1b]0;hostile\\x07\\x0a\\xff"), || {
        format!("{lines:#?}")
    })?;
    let is_plain = text
        .chars()
        .all(|character| character == '\n' || !character.is_control());
    ensure(is_plain, || format!("{text:?}"))
}

/// On a terminal the banner tells what is full now.
fn banner_shows_the_fullest(setting: &Setting) -> Result<(), String> {
    let mut holder = gym::command("hold");
    holder.args([
        "--wait",
        "--count",
        "60",
        "--limit",
        "64",
        "--comm",
        "almost-full",
    ]);
    let (mut holder, pid) = Gym::start_waiting(holder)?;
    holder.release()?;
    let facts = holder.held()?;
    let text =
        on_a_terminal(tracer::command().args(["--backend", &setting.backend, "-d", "100ms"]))?;
    let percent = facts.used * 100 / 64;
    let wanted = format!("{pid} almost-full {} of 64 {percent} %", facts.used);
    let rows: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    holder.end()?;
    ensure(rows.iter().any(|row| row.ends_with(&wanted)), || {
        format!("no {wanted:?} in {rows:#?}")
    })
}

/// What a command writes to the terminal that its stderr is.
fn on_a_terminal(command: &mut Command) -> Result<String, String> {
    let terminal =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(|error| error.to_string())?;
    unlockpt(&terminal).map_err(|error| error.to_string())?;
    let name = ptsname(&terminal, Vec::new()).map_err(|error| error.to_string())?;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
    let side = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| error.to_string())?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(side)
        .spawn()
        .map_err(|error| format!("starting fdtrace: {error}"))?;
    // The command holds the other side too, and reading from a side without another fails.
    command.stderr(Stdio::null());
    let mut text = Vec::new();
    let _ = fs::File::from(terminal).read_to_end(&mut text);
    child.wait().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `doctor` says of each backend whether it works; forcing it must come to the same.
fn doctor_and_force_agree(_: &Setting) -> Result<(), String> {
    let output = run(tracer::command().args(["doctor", "--json"]))?;
    let doctor: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    ensure(doctor["type"] == "doctor" && doctor["v"] == 1, || {
        doctor.to_string()
    })?;
    let backends = doctor["backends"].as_array().ok_or("no backends")?;
    ensure(backends.len() == 3, || doctor.to_string())?;
    let best = backends.iter().find(|backend| backend["works"] == true);
    ensure(
        best.map(|best| &best["name"]) == Some(&doctor["backend"]),
        || doctor.to_string(),
    )?;
    for backend in backends {
        let name = backend["name"].as_str().ok_or("no name")?;
        let forced = run(tracer::command().args(["--backend", name, "-d", "100ms"]))?;
        if backend["works"] == true {
            ensure(forced.status.code() == Some(0), || {
                format!("{name}: {forced:?}")
            })?;
        } else {
            let reason = backend["reason"].as_str().ok_or("no reason")?;
            refused(&forced, &[name, reason])?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<Output, String> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))
}

/// Status 2, nothing on stdout, one line on stderr that contains these.
fn refused(output: &Output, wanted: &[&str]) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_refused = output.status.code() == Some(2)
        && output.stdout.is_empty()
        && text.lines().count() == 1
        && text.starts_with("fdtrace: ")
        && wanted.iter().all(|wanted| text.contains(wanted));
    ensure(is_refused, || {
        format!("{wanted:?} was to be refused: {output:?}")
    })
}

/// Runs fdtrace in a mount namespace in which `preparation` has been done.
fn in_mount_namespace(preparation: &str, arguments: &[&str]) -> Result<Output, String> {
    let fdtrace = super::executable("FDTRACE_BIN", option_env!("CARGO_BIN_EXE_fdtrace"));
    let script = format!("{preparation} && exec \"$0\" \"$@\"");
    run(Command::new("unshare")
        .args(["-m", "sh", "-c", &script, &fdtrace])
        .args(arguments))
}

const HIDE_BTF: &str = "mount -t tmpfs none /sys/kernel/btf";

fn without_btf(_: &Setting) -> Result<(), String> {
    refused(
        &in_mount_namespace(HIDE_BTF, &["-d", "1"])?,
        &["BTF", "--btf"],
    )
}

fn with_btf_from_a_file(setting: &Setting) -> Result<(), String> {
    let path = std::env::temp_dir().join(format!("fdtrace-btf-{}", std::process::id()));
    fs::copy("/sys/kernel/btf/vmlinux", &path)
        .map_err(|error| format!("copying the BTF: {error}"))?;
    let file = path.display().to_string();
    let arguments = ["-d", "100ms", "--backend", &setting.backend, "--btf", &file];
    let output = in_mount_namespace(HIDE_BTF, &arguments);
    let _ = fs::remove_file(&path);
    let output = output?;
    ensure(output.status.success(), || format!("{output:?}"))
}

fn without_cgroup_v2(_: &Setting) -> Result<(), String> {
    let mount = fdtrace::probe::cgroup::mount_point().ok_or("no cgroup v2 hierarchy")?;
    let unmount = format!("umount {}", mount.display());
    let output = in_mount_namespace(&unmount, &["-d", "1", "--cgroup", "system.slice"])?;
    refused(&output, &["cgroup v2"])
}

/// fs.file-max lowered, and put back in any case.
struct FileMax(String);

impl FileMax {
    const PATH: &str = "/proc/sys/fs/file-max";

    fn lowered(to: u32) -> Result<Self, String> {
        let before = fs::read_to_string(Self::PATH).map_err(|error| error.to_string())?;
        fs::write(Self::PATH, to.to_string()).map_err(|error| error.to_string())?;
        Ok(Self(before))
    }
}

impl Drop for FileMax {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

fn on_a_host_without_files(setting: &Setting) -> Result<(), String> {
    let mut holder = gym::command("hold");
    holder.args(["--wait", "--count", "900", "--limit", "1024"]);
    let (mut holder, _) = Gym::start_waiting(holder)?;
    holder.release()?;
    holder.held()?;
    let _lowered = FileMax::lowered(128)?;
    let tracer = Tracer::start(&setting.backend, &[])?;
    let facts = gym::run("openat", &[])?;
    let object = tracer.wait_for(|object| object["pid"] == facts.pid)?;
    ensure(object["cause"] == "rlimit_nofile", || object.to_string())?;
    tracer.stop()?;
    holder.end()
}

/// Then no process can set its own limits, fdtrace no more than those that it is to diagnose.
fn nr_open_below_its_hard_limit(setting: &Setting) -> Result<(), String> {
    const LOWERED: u64 = 512;
    let hard = getrlimit(Resource::Nofile).maximum;
    ensure(hard.is_none_or(|hard| hard > LOWERED), || {
        format!("{hard:?}")
    })?;
    let (mut victim, _) = Gym::waiting::<&str>("openat", &[])?;
    let _lowered = Lowered::new((NR_OPEN, LOWERED))?;
    let tracer = Tracer::start(&setting.backend, &[])?;
    victim.release()?;
    let facts = victim.finish()?;
    tracer.wait_for(|object| object["pid"] == facts.pid)?;
    let ended = tracer.stop()?;
    ensure(ended.status.success(), || ended.stderr)
}

fn locked_down(_: &Setting) -> Result<(), String> {
    let path = "/sys/kernel/security/lockdown";
    fs::write(path, "confidentiality").map_err(|error| format!("{path}: {error}"))?;
    refused(
        &run(tracer::command().args(["-d", "1"]))?,
        &["locked down", "confidentiality"],
    )
}

fn in_a_pid_namespace(_: &Setting) -> Result<(), String> {
    let fdtrace = super::executable("FDTRACE_BIN", option_env!("CARGO_BIN_EXE_fdtrace"));
    let script = "exec \"$0\" -d 1";
    let mut command = Command::new("unshare");
    command.args(["-p", "-f", "sh", "-c", script, &fdtrace]);
    refused(&run(&mut command)?, &["pid namespace", "--pid=host"])
}
