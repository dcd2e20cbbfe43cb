//! An fdtrace that may not do everything: capabilities, `kernel.perf_event_paranoid`, /proc, its own fd limit.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use libtest_mimic::Trial;
use rustix::{
    fs::{XattrFlags, setxattr},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use serde_json::Value;

use super::{Setting, ensure, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("privilege::{name}"), move || test(&setting))
    };
    let mut trials = vec![test("it_says_how_many_fds_it_needs", own_limit)];
    if setting.is_first {
        trials.extend([
            test("what_is_missing_is_blamed", missing_capability),
            test("without_proc", without_proc),
            test("with_another_namespaces_proc", with_another_namespaces_proc),
        ]);
    }
    if setting.is_guest {
        // The host's settings are nobody else's there.
        trials.push(test("paranoid_about_perf_events", paranoid));
    } else {
        // busybox has no setpriv.
        trials.push(test("with_hidden_processes", with_hidden_processes));
    }
    trials
}

fn fdtrace() -> String {
    super::executable("FDTRACE_BIN", option_env!("CARGO_BIN_EXE_fdtrace"))
}

fn run(command: &mut Command) -> Result<Output, String> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))
}

/// The one line with which it refuses to begin.
fn refusal(output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_refusal = output.status.code() == Some(2) && text.lines().count() == 1;
    ensure(is_refusal, || format!("{output:?}"))?;
    Ok(text.trim_end().to_owned())
}

/// fdtrace with this many fds, and no more.
fn limited(limit: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, &fdtrace()]).args(arguments);
    command
}

fn own_limit(setting: &Setting) -> Result<(), String> {
    for command in ["watch", "trace"] {
        let arguments = [command, "--json", "--backend", &setting.backend];
        let refusal = refusal(&run(&mut limited(16, &arguments))?)?;
        let needed = refusal
            .strip_prefix("fdtrace: fdtrace needs ")
            .and_then(|rest| rest.split_once(" open files, its limit is 16: ulimit -n "))
            .filter(|(needed, typed)| needed == typed)
            .and_then(|(needed, _)| needed.parse::<u64>().ok());
        let needed = needed.ok_or_else(|| refusal.clone())?;
        // With one fd less it does not begin, with so many it runs and never runs out itself.
        let refused = run(&mut limited(needed - 1, &arguments))?;
        ensure(refused.status.code() == Some(2), || format!("{refused:?}"))?;
        let tracer = Tracer::start_command(limited(needed, &arguments))?;
        let pid = tracer.pid();
        let folder = format!("/proc/{pid}/fd");
        let open = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
        let open = open.count() as u64;
        ensure(
            (needed.saturating_sub(MARGIN)..needed).contains(&open),
            || format!("{command}: {open} open, {needed} needed"),
        )?;
        let ended = tracer.stop()?;
        let own = ended.objects.iter().find(|object| {
            object["pid"] == pid && (object["type"] == "exhausted" || object["op"] == "failed")
        });
        ensure(own.is_none(), || format!("{command} at {needed}: {own:?}"))?;
        let is_well = ended.status.success() && !ended.stderr.contains("Too many open files");
        ensure(is_well, || ended.stderr.clone())?;
    }
    Ok(())
}

/// What may be asked for and not be open: what is open for a moment, and the other way to attach where one of
/// two is tried.
const MARGIN: u64 = 64;

/// Capabilities by their numbers in include/uapi/linux/capability.h.
const SYS_ADMIN: u32 = 21;
const SYS_RESOURCE: u32 = 24;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
/// nobody's, everywhere.
const NOBODY: u32 = 65_534;

/// A copy of fdtrace with capabilities, for users who have none; removed when dropped.
struct Capable {
    folder: PathBuf,
    is_mounted: bool,
}

impl Capable {
    fn new(capabilities: &[u32]) -> Result<Self, String> {
        let name = format!("fdtrace-capable-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut copy = Self {
            folder,
            is_mounted: false,
        };
        copy.fill()?;
        if capabilities.is_empty() {
            // With a set of its own, even an empty one, a file takes none from who runs it.
            return Ok(copy);
        }
        match copy.give(capabilities) {
            // The root file system of a guest keeps no attributes.
            Err(Errno::OPNOTSUPP) => {
                let no_data = None::<&std::ffi::CStr>;
                mount("none", &copy.folder, "tmpfs", MountFlags::empty(), no_data)
                    .map_err(|error| format!("mounting tmpfs: {error}"))?;
                copy.is_mounted = true;
                copy.fill()?;
                copy.give(capabilities)
            }
            other => other,
        }
        .map_err(|error| format!("setting capabilities: {error}"))?;
        Ok(copy)
    }

    /// What memory for maps takes. Before 5.11 they are charged to `RLIMIT_MEMLOCK`, which `CAP_SYS_RESOURCE` alone
    /// may raise.
    fn memory() -> Result<Option<u32>, String> {
        let output = Self::new(&[BPF, PERFMON])?.run(&["doctor"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.contains("RLIMIT_MEMLOCK").then_some(SYS_RESOURCE))
    }

    /// One that may have memory for its maps as well.
    fn with_memory(capabilities: &[u32], memory: Option<u32>) -> Result<Self, String> {
        let all: Vec<_> = capabilities.iter().copied().chain(memory).collect();
        Self::new(&all)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("fdtrace")
    }

    fn fill(&self) -> Result<(), String> {
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.folder, readable)
            .and_then(|()| fs::copy(fdtrace(), self.path()))
            .map(drop)
            .map_err(|error| format!("copying fdtrace: {error}"))
    }

    /// `struct vfs_cap_data`, revision 2, in include/uapi/linux/capability.h.
    fn give(&self, capabilities: &[u32]) -> Result<(), Errno> {
        const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
        let permitted = capabilities.iter().fold(0_u64, |all, one| all | 1 << one);
        // The lower half of both sets, then the upper one; nothing is inheritable.
        let bytes = permitted.to_le_bytes();
        let (low, high) = bytes.split_at(4);
        let value = [
            &REVISION_2_EFFECTIVE.to_le_bytes()[..],
            low,
            &[0; 4],
            high,
            &[0; 4],
        ]
        .concat();
        let name = "security.capability";
        setxattr(self.path(), name, &value, XattrFlags::empty())
    }

    /// Run by somebody without any right of their own.
    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        let mut command = Command::new(self.path());
        command.args(arguments).current_dir("/");
        run(command.uid(NOBODY).gid(NOBODY))
    }

    /// What `doctor` says, as text and as an object.
    fn doctor(&self) -> Result<(String, Value), String> {
        let output = self.run(&["doctor"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text, self.doctors_object()?))
    }

    fn doctors_object(&self) -> Result<Value, String> {
        let output = self.run(&["doctor", "--json"])?;
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {output:?}"))
    }
}

impl Drop for Capable {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = unmount(&self.folder, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Without CAP_PERFMON the kernel refuses programs of all backends, and it is none of its fault.
fn missing_capability(_: &Setting) -> Result<(), String> {
    let (text, object) = Capable::with_memory(&[BPF], Capable::memory()?)?.doctor()?;
    ensure(object["missing_capabilities"][0] == "CAP_PERFMON", || {
        text.clone()
    })?;
    let backends = object["backends"].as_array().ok_or("no backends")?;
    ensure(backends.len() == 3, || object.to_string())?;
    for backend in backends {
        let reason = backend["reason"].as_str().unwrap_or_default();
        ensure(reason.ends_with(": CAP_PERFMON missing"), || text.clone())?;
    }
    Ok(())
}

/// `kernel.perf_event_paranoid`, put back when dropped.
struct Paranoid(String);

impl Paranoid {
    const PATH: &str = "/proc/sys/kernel/perf_event_paranoid";

    fn at(level: u32) -> Result<Self, String> {
        let before = fs::read_to_string(Self::PATH).map_err(|error| error.to_string())?;
        fs::write(Self::PATH, level.to_string()).map_err(|error| error.to_string())?;
        Ok(Self(before))
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

/// All guests' kernels are Debian's, which refuse perf events above mainline's level 2.
fn paranoid(setting: &Setting) -> Result<(), String> {
    let backend = |object: &Value| {
        let mut backends = object["backends"].as_array().into_iter().flatten();
        backends
            .find(|backend| backend["name"] == *setting.backend)
            .cloned()
            .unwrap_or_default()
    };
    let memory = Capable::memory()?;
    let few = Capable::with_memory(&[BPF, PERFMON], memory)?;
    let before = Paranoid::at(3)?;
    let (text, object) = few.doctor()?;
    let refused = backend(&object);
    let advice = refused["advice"][0].as_str().unwrap_or_default();
    for way in [
        "sysctl kernel.perf_event_paranoid=2",
        "cap_sys_admin",
        "as root",
    ] {
        ensure(advice.contains(way), || text.clone())?;
    }
    ensure(
        object["missing_capabilities"] == Value::Array(Vec::new()),
        || text.clone(),
    )?;
    let is_said = !text.contains("capabilities  all there\n")
        && text.contains(&format!("problem: {advice}\n"))
        && text.contains("(os error 13): kernel.perf_event_paranoid is 3");
    ensure(is_said, || text.clone())?;
    // Who only watches is told as well, once.
    let watch = few.run(&["--backend", &setting.backend, "-d", "100ms"])?;
    let said = String::from_utf8_lossy(&watch.stderr);
    ensure(said.matches(advice).count() == 1, || said.to_string())?;
    let is_ended = watch.status.code() == Some(if refused["works"] == true { 0 } else { 2 });
    ensure(is_ended, || format!("{watch:?}"))?;
    // Both ways out are ways out.
    drop(few);
    let admin = Capable::with_memory(&[BPF, PERFMON, SYS_ADMIN], memory)?;
    works(&admin, &backend)?;
    drop(admin);
    let allowed = Paranoid::at(2)?;
    works(&Capable::with_memory(&[BPF, PERFMON], memory)?, &backend)?;
    drop(allowed);
    drop(before);
    Ok(())
}

fn works(fdtrace: &Capable, backend: &impl Fn(&Value) -> Value) -> Result<(), String> {
    let object = fdtrace.doctors_object()?;
    let backend = backend(&object);
    let nothing = Value::Array(Vec::new());
    let is_well = backend["works"] == true && backend["advice"] == nothing;
    ensure(is_well && object["missing_capabilities"] == nothing, || {
        object.to_string()
    })
}

/// fdtrace in a mount namespace in which this has been done.
fn in_mount_namespace(preparation: &str) -> Result<Output, String> {
    let script = format!("{preparation} && exec \"$0\" -d 1");
    run(Command::new("unshare").args(["-m", "sh", "-c", &script, &fdtrace()]))
}

fn without_proc(_: &Setting) -> Result<(), String> {
    let line = refusal(&in_mount_namespace("mount -t tmpfs none /proc")?)?;
    let is_said = line.starts_with("fdtrace: /proc is not mounted") && line.ends_with("/proc");
    ensure(is_said, || line)
}

/// Mounted by a process of another pid namespace, which shares fdtrace's mounts.
fn with_another_namespaces_proc(_: &Setting) -> Result<(), String> {
    let mount = "unshare -p -f mount -t proc proc /proc";
    let line = refusal(&in_mount_namespace(mount)?)?;
    ensure(
        line.contains("/proc belongs to another pid namespace"),
        || line,
    )
}

/// An instance of its own: a remount would hide processes from everybody.
fn with_hidden_processes(_: &Setting) -> Result<(), String> {
    const SETPRIV: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups \
                           --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon";
    let copy = Capable::new(&[])?;
    for level in [1, 2] {
        let script =
            format!("mount -t proc -o hidepid={level} proc /proc && exec {SETPRIV} \"$0\" \"$@\"");
        let path = copy.path().display().to_string();
        let run = |arguments: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script, &path]);
            run(command.args(arguments))
        };
        let output = run(&["-d", "100ms"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_told = output.status.success() && said.contains("mounted with hidepid");
        ensure(is_told, || format!("{level}: {output:?}"))?;
        let line = refusal(&run(&["-d", "1", "-p", "1"])?);
        // What is there and may not be opened is not confused with what is not there.
        let is_told = line.is_ok_and(|line| line.contains("has ended or is hidden"));
        ensure(is_told, || format!("{level}: --pid 1"))?;
    }
    Ok(())
}
