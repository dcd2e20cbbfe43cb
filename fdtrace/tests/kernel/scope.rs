//! Who is watched: victims inside and outside each filter, and only the right ones appear.

mod cgroups;
mod ends;
mod other_fdtraces;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::Trial;

use super::{Setting, ensure, gym::Gym, tracer::Tracer, trial};

/// Somebody who is not root (`nobody`).
const NOBODY: u32 = 65534;

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("scope::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("pid_set", pid_set),
        test("children_without_follow", children_without_follow),
        test("children_with_follow", children_with_follow),
        test("grandchildren_with_follow", grandchildren_with_follow),
        test("children_from_before_with_follow", children_from_before),
        test("cgroup_with_descendants", cgroup_with_descendants),
        test("comm_contains", comm_contains),
        test("uid", uid),
        test("thread_names", thread_names),
        test("filters_combined", filters_combined),
    ];
    trials.extend(cgroups::trials(setting));
    trials.extend(ends::trials(setting));
    trials.extend(other_fdtraces::trials(setting));
    trials
}

/// Runs waiting victims to their ends under a filtered fdtrace; just those marked must appear.
fn check(setting: &Setting, filter: &[&str], victims: Vec<(Gym, bool)>) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, filter)?;
    let mut wanted = Vec::new();
    for (mut victim, is_wanted) in victims {
        victim.release()?;
        let facts = victim.finish()?;
        ensure(facts.failures > 0, || format!("{facts:?} has not failed"))?;
        if is_wanted {
            wanted.push(facts.pid);
        }
    }
    let ended = tracer.stop()?;
    let told = ended
        .objects
        .iter()
        .filter(|object| object["type"] == "exhausted");
    let mut told: Vec<_> = told.filter_map(|object| object["pid"].as_u64()).collect();
    told.sort_unstable();
    wanted.sort_unstable();
    ensure(told == wanted, || {
        format!("processes {told:?} appeared instead of {wanted:?}")
    })
}

fn waiting(scenario: &str, arguments: &[&str]) -> Result<(Gym, u32), String> {
    Gym::waiting(scenario, arguments)
}

fn pid_set(setting: &Setting) -> Result<(), String> {
    let (first, first_pid) = waiting("openat", &[])?;
    let (outside, _) = waiting("openat", &[])?;
    let (second, second_pid) = waiting("dup", &[])?;
    let pids = format!("{first_pid},{second_pid}");
    check(
        setting,
        &["--pid", &pids],
        vec![(first, true), (outside, false), (second, true)],
    )
}

fn children_without_follow(setting: &Setting) -> Result<(), String> {
    let (parent, pid) = waiting("fork_child", &[])?;
    check(setting, &["-p", &pid.to_string()], vec![(parent, false)])
}

fn children_with_follow(setting: &Setting) -> Result<(), String> {
    let (parent, pid) = waiting("fork_child", &[])?;
    let (outside, _) = waiting("openat", &[])?;
    check(
        setting,
        &["-p", &pid.to_string(), "-f"],
        vec![(parent, true), (outside, false)],
    )
}

fn grandchildren_with_follow(setting: &Setting) -> Result<(), String> {
    let (parent, pid) = waiting("grandchild", &[])?;
    check(
        setting,
        &["-p", &pid.to_string(), "--follow"],
        vec![(parent, true)],
    )
}

/// The child is there already when fdtrace is told to follow its parent.
fn children_from_before(setting: &Setting) -> Result<(), String> {
    let gym = super::executable("FDTRACE_GYM", None);
    let mut shell = Command::new("sh");
    // What follows gym keeps the shell from becoming it.
    shell.args(["-c", "\"$0\" openat --wait; exit $?", &gym]);
    let (child, _) = Gym::start_waiting(shell)?;
    let parent = child.started().to_string();
    check(setting, &["-p", &parent, "-f"], vec![(child, true)])
}

/// A cgroup made for one test.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn new(path: PathBuf) -> Result<Self, String> {
        fs::create_dir(&path).map_err(|error| format!("making {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// As a service's is when it is restarted.
    fn make_anew(&self) -> Result<(), String> {
        fs::remove_dir(&self.0)
            .and_then(|()| fs::create_dir(&self.0))
            .map_err(|error| format!("making {} anew: {error}", self.0.display()))
    }

    fn take(&self, pid: u32) -> Result<(), String> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .map_err(|error| format!("moving {pid} to {}: {error}", self.0.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty by now, unless the test has failed.
        let _ = fs::remove_dir(&self.0);
    }
}

pub(crate) fn mount() -> Result<PathBuf, String> {
    fdtrace::probe::cgroup::mount_point().ok_or_else(|| "no cgroup v2 hierarchy".to_owned())
}

fn cgroup_with_descendants(setting: &Setting) -> Result<(), String> {
    let name = format!("fdtrace-test-{}", std::process::id());
    let outer = Cgroup::new(mount()?.join(&name))?;
    let inner = Cgroup::new(outer.0.join("inner"))?;
    let other = Cgroup::new(mount()?.join(format!("{name}-other")))?;
    let victims = || -> Result<_, String> {
        let (in_outer, pid) = waiting("openat", &[])?;
        outer.take(pid)?;
        let (in_inner, pid) = waiting("openat", &[])?;
        inner.take(pid)?;
        let (in_other, pid) = waiting("openat", &[])?;
        other.take(pid)?;
        let (nowhere, _) = waiting("openat", &[])?;
        Ok(vec![
            (in_outer, true),
            (in_inner, true),
            (in_other, false),
            (nowhere, false),
        ])
    };
    check(setting, &["--cgroup", &name], victims()?)?;
    let absolute = outer.0.display().to_string();
    check(setting, &["--cgroup", &absolute], victims()?)?;
    paths_are_told(setting, &inner, &format!("/{name}/inner"))
}

/// The object names the cgroup as it is below the mount.
fn paths_are_told(setting: &Setting, cgroup: &Cgroup, path: &str) -> Result<(), String> {
    let (mut victim, pid) = waiting("openat", &[])?;
    cgroup.take(pid)?;
    let tracer = Tracer::start(&setting.backend, &["-p", &pid.to_string(), "--once"])?;
    victim.release()?;
    victim.finish()?;
    let ended = tracer.wait()?;
    let told = ended.objects.first().map(|object| object["cgroup"].clone());
    ensure(told == Some(path.into()), || {
        format!("{told:?} instead of {path}")
    })
}

fn comm_contains(setting: &Setting) -> Result<(), String> {
    let (inside, _) = waiting("openat", &["--comm", "web: worker 7"])?;
    let (at_the_end, _) = waiting("openat", &["--comm", "123456789worker"])?;
    let (outside, _) = waiting("openat", &["--comm", "web: worke"])?;
    check(
        setting,
        &["-n", "worker"],
        vec![(inside, true), (at_the_end, true), (outside, false)],
    )
}

/// Of a thread with a name of its own, that name counts, and that of its process.
fn thread_names(setting: &Setting) -> Result<(), String> {
    let threaded = || waiting("openat", &["--comm", "java", "--thread", "http-exec-1"]);
    for name in ["java", "exec-1"] {
        let (inside, _) = threaded()?;
        let (outside, _) = waiting("openat", &["--comm", "jav", "--thread", "http-exec-2"])?;
        check(
            setting,
            &["-n", name],
            vec![(inside, true), (outside, false)],
        )?;
    }
    // A longer name that the process has had before is none of it.
    let (outside, _) = waiting("openat", &["--comm", "x", "--thread", "y"])?;
    check(setting, &["-n", "gym"], vec![(outside, false)])?;
    listed_by_thread_names()
}

/// The same for a snapshot.
fn listed_by_thread_names() -> Result<(), String> {
    let (mut victim, pid) = waiting("openat", &["--comm", "java", "--thread", "http-exec-1"])?;
    for name in ["java", "exec-1"] {
        let listed = super::tracer::command()
            .args(["ls", "--json", "--count", "-n", name])
            .output()
            .map_err(|error| format!("starting fdtrace: {error}"))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let is_there = listed.contains(&format!("\"pid\":{pid},"));
        ensure(is_there, || {
            format!("-n {name} does not list {pid}: {listed}")
        })?;
    }
    victim.release()?;
    victim.finish().map(drop)
}

fn uid(setting: &Setting) -> Result<(), String> {
    let (outside, _) = waiting("openat", &[])?;
    let inside = as_nobody("openat")?;
    check(
        setting,
        &["-u", &NOBODY.to_string()],
        vec![(outside, false), (inside, true)],
    )
}

fn filters_combined(setting: &Setting) -> Result<(), String> {
    let (right, pid) = waiting("openat", &["--comm", "right"])?;
    let (wrong_name, other) = waiting("openat", &["--comm", "wrong"])?;
    let (wrong_pid, _) = waiting("openat", &["--comm", "right"])?;
    let pids = format!("{pid},{other}");
    let filter = ["-p", &pids, "-n", "right", "-u", "0"];
    check(
        setting,
        &filter,
        vec![(right, true), (wrong_name, false), (wrong_pid, false)],
    )
}

/// A victim of another user; its executable must be where that user may run it.
fn as_nobody(scenario: &str) -> Result<Gym, String> {
    let gym = super::executable("FDTRACE_GYM", None);
    let copy = PathBuf::from(format!("/tmp/fdtrace-gym-{}", std::process::id()));
    fs::copy(Path::new(&gym), &copy).map_err(|error| format!("copying gym: {error}"))?;
    let mut command = Command::new(&copy);
    command.args([scenario, "--wait"]).uid(NOBODY).gid(NOBODY);
    let started = Gym::start_waiting(command);
    let _ = fs::remove_file(&copy);
    Ok(started?.0)
}
