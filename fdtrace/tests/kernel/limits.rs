//! Whose limit it is, and who fills one that is shared: what only a kernel with processes in it can show.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::Gym,
    programs::clean,
    remedy::typed,
    scope::{Cgroup, mount},
    tracer::Tracer,
    trial,
};

const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("limits::{name}"), move || test(&setting))
    };
    let mut trials = vec![test("set_by_itself", set_by_itself)];
    if setting.is_guest {
        // Settings are the whole host's.
        trials.push(test("files_of_the_host", files_of_the_host));
    } else {
        // A guest has no such programs.
        trials.extend([
            test("of_a_shell_with_a_script", of_a_shell_with_a_script),
            test(
                "of_a_unit_in_a_root_of_its_own",
                of_a_unit_in_a_root_of_its_own,
            ),
            test("inotify_instances_of_a_user", inotify_instances_of_a_user),
            test(
                "inotify_instances_beyond_a_filter",
                inotify_instances_beyond_a_filter,
            ),
        ]);
    }
    trials
}

/// gym lowers its own limit, as every scenario does.
fn set_by_itself(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (mut victim, pid) = Gym::waiting("retry_dup", &["--limit", "77"])?;
    victim.release()?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == pid)?;
    let limit = &object["limit"];
    let is_right = limit["origin"] == "self" && limit["parent"]["pid"] == std::process::id();
    ensure(is_right, || format!("{object:#}"))?;
    let command = command(&object, "now")?;
    typed(&command)?;
    victim.finish()?;
    tracer.stop().map(drop)
}

/// A folder of its own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self, String> {
        let name = format!("fdtrace-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The shell lowers its limit for all that its script starts; what the report says to put into the script is put there.
fn of_a_shell_with_a_script(setting: &Setting) -> Result<(), String> {
    let scratch = Scratch::new("script")?;
    let path = scratch.0.join("start.sh");
    let write = |limit: &str| {
        // Says its limit, fails at it if it is so low, and ends when nobody is there any more.
        let program = "import resource, sys\n\
                       print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True)\n\
                       kept = []\n\
                       try:\n    \
                           while len(kept) < 200: kept.append(open(\"/dev/null\"))\n\
                       except OSError: pass\n\
                       sys.stdin.readline()";
        let text = format!("{limit}\npython3 -c '{program}'\n:\n");
        fs::write(&path, text).map_err(|error| error.to_string())
    };
    write("ulimit -Sn 64")?;
    let tracer = Tracer::start(&setting.backend, &[])?;
    let mut shell = Command::new("sh");
    shell
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut running = Running::start(&mut shell)?;
    let object = tracer.wait_for(|object| {
        object["type"] == "exhausted" && object["limit"]["starter"]["pid"] == running.0.id()
    });
    running.end()?;
    let object = object?;
    let limit = &object["limit"];
    let is_right = limit["origin"] == "parent"
        && limit["soft"] == 64
        && limit["starter"]["soft"] == 64
        && limit["starter"]["script"] == path.to_string_lossy().as_ref();
    ensure(is_right, || format!("{object:#}"))?;
    let why = why(&object, "permanent")?;
    let line = why.split('`').nth(1).ok_or_else(|| why.clone())?;
    ensure(
        why.contains("start.sh") && line.starts_with("ulimit -Sn "),
        || why.clone(),
    )?;
    write(line)?;
    let mut running = Running::start(&mut shell)?;
    let said = running.line();
    running.end()?;
    let wanted = line.rsplit(' ').next().unwrap_or_default();
    let said = said?;
    ensure(said == wanted, || format!("{said:?} in place of {wanted}"))?;
    tracer.stop().map(drop)
}

/// A program that goes on until its standard input ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let child = command.spawn();
        Ok(Self(
            child.map_err(|error| format!("{command:?}: {error}"))?,
        ))
    }

    /// The next line that it writes.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let stdout = self.0.stdout.take().ok_or("no stdout")?;
        let mut stdout = BufReader::new(stdout);
        stdout
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        Ok(line.trim_end().to_owned())
    }

    fn end(&mut self) -> Result<(), String> {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        self.0.wait().map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service manager, as in a container: in a scope of its own, with a root in which the unit's files are. A service has
/// the limit that they say, or has set another one itself.
fn of_a_unit_in_a_root_of_its_own(setting: &Setting) -> Result<(), String> {
    let scratch = Scratch::new("units")?;
    let unit = scratch.0.join("etc/systemd/system/web.service");
    let drop_ins = unit.with_extension("service.d");
    let said = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&drop_ins).map_err(said)?;
    fs::write(&unit, "[Service]\nLimitNOFILE=90\n").map_err(said)?;
    fs::write(drop_ins.join("50.conf"), "[Service]\nLimitNOFILE=64:80\n").map_err(said)?;
    let base = Cgroup::new(mount()?.join(format!("fdtrace-units-{}", std::process::id())))?;
    let scope = Cgroup::new(base.0.join("init.scope"))?;
    let slice = Cgroup::new(base.0.join("system.slice"))?;
    let service = Cgroup::new(slice.0.join("web.service"))?;
    let script = "import ctypes, os, resource, sys\n\
                  scope, service, root, soft = sys.argv[1:]\n\
                  libc = ctypes.CDLL(None)\n\
                  def enter(cgroup, name):\n    \
                      open(cgroup + '/cgroup.procs', 'w').write(str(os.getpid()))\n    \
                      os.chroot(root)\n    \
                      libc.prctl(15, name, 0, 0, 0)\n\
                  ready, go = os.pipe()\n\
                  child = os.fork()\n\
                  if child == 0:\n    \
                      enter(service, b'a_service')\n    \
                      resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), 80))\n    \
                      os.read(ready, 1)\n    \
                      try:\n        \
                          while True: os.dup(0)\n    \
                      except OSError: pass\n    \
                      sys.stdin.readline(); os._exit(0)\n\
                  enter(scope, b'systemd')\n\
                  os.write(go, b'x')\n\
                  print(child, flush=True)\n\
                  os.waitpid(child, 0)\n";
    for (soft, origin) in [("64", "unit"), ("50", "self")] {
        let tracer = Tracer::start(&setting.backend, &[])?;
        let mut command = clean("python3");
        command.args(["-c", script]);
        command.args([&scope.0, &service.0, &scratch.0]).arg(soft);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut manager = Running::start(&mut command)?;
        let pid = manager.line()?.parse::<u64>();
        let pid = pid.map_err(|error| error.to_string())?;
        let object =
            tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == pid);
        manager.end()?;
        tracer.stop()?;
        let object = object?;
        let limit = &object["limit"];
        let is_of_unit = origin == "unit";
        let file = "/etc/systemd/system/web.service.d/50.conf";
        let is_right = limit["origin"] == origin
            && limit["parent"]["comm"] == "systemd"
            && (limit["file"] == file) == is_of_unit;
        ensure(is_right, || format!("{object:#}"))?;
        let why = why(&object, "permanent")?;
        let names_it = why.contains("LimitNOFILE=4096:4096") && why.contains("web.service");
        ensure(names_it == is_of_unit, || why.clone())?;
    }
    Ok(())
}

/// Three processes hold the instances that another one of their user does not get.
fn inotify_instances_of_a_user(setting: &Setting) -> Result<(), String> {
    inotify_instances(&setting.backend, &[])
}

/// The filter asks for none of those that hold them.
fn inotify_instances_beyond_a_filter(setting: &Setting) -> Result<(), String> {
    inotify_instances(&setting.backend, &["--comm", "a_victim"])
}

fn inotify_instances(backend: &str, arguments: &[&str]) -> Result<(), String> {
    // No user that anything else runs as here.
    const UID: u32 = 54_321;
    let script = "import ctypes, sys\n\
                  libc = ctypes.CDLL(None)\n\
                  libc.prctl(15, sys.argv[2].encode(), 0, 0, 0)\n\
                  for _ in range(int(sys.argv[1])):\n    \
                      if libc.inotify_init1(0) < 0: break\n\
                  print('holds', flush=True)\n\
                  sys.stdin.readline()\n";
    let most = fs::read_to_string(INSTANCES).map_err(|error| format!("{INSTANCES}: {error}"))?;
    let most: u32 = most
        .trim()
        .parse()
        .map_err(|error| format!("{most:?}: {error}"))?;
    let shares = [most / 2, most / 4, most - most / 2 - most / 4];
    let tracer = Tracer::start(backend, arguments)?;
    let mut holders = Vec::new();
    let mut start = |count: u32, name: &str| {
        let mut command = clean("python3");
        command.args(["-c", script, &count.to_string(), name]);
        command
            .uid(UID)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let line = running.line()?;
        let pid = running.0.id();
        holders.push(running);
        ensure(line == "holds", || line.clone()).map(|()| pid)
    };
    let pids = [
        start(shares[0], "a_hoarder")?,
        start(shares[1], "a_hoarder")?,
        start(shares[2], "a_hoarder")?,
    ];
    let victim = start(1, "a_victim")?;
    let object =
        tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == victim)?;
    ensure(object["cause"] == "inotify_instances", || {
        format!("{object:#}")
    })?;
    let told = shared(&object)?;
    let wanted: Vec<_> = pids.into_iter().zip(shares).collect();
    let found = |(pid, count): &(u32, u32)| {
        told.iter()
            .any(|told| *told == (u64::from(*pid), "a_hoarder".to_owned(), u64::from(*count)))
    };
    let is_right = told
        .first()
        .is_some_and(|first| first.0 == u64::from(pids[0]))
        && wanted.iter().all(found)
        && told.len() <= 5;
    ensure(is_right, || format!("{told:?} in place of {wanted:?}"))?;
    drop(holders);
    tracer.stop().map(drop)
}

/// Somebody hoards files while another one finds the host without any.
fn files_of_the_host(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let arguments = ["--count", "450", "--limit", "1024"];
    let (mut hoarder, hoards) = Gym::waiting("hold", &arguments)?;
    hoarder.release()?;
    hoarder.held()?;
    let (mut victim, pid) = Gym::waiting("file_max", &[] as &[&str])?;
    victim.release()?;
    let object = tracer.wait_for(|object| {
        object["type"] == "exhausted" && object["pid"] == pid && object["cause"] == "file_max"
    })?;
    let told = shared(&object)?;
    let is_told = told
        .iter()
        .any(|(pid, comm, count)| *pid == u64::from(hoards) && comm == "gym" && *count >= 450);
    ensure(is_told, || format!("{hoards} is not in {told:?}"))?;
    ensure(told.len() <= 5, || format!("{told:?}"))?;
    victim.finish()?;
    hoarder.end()?;
    tracer.stop().map(drop)
}

/// Who holds most of a limit that is shared: pid, name, how many.
fn shared(object: &Value) -> Result<Vec<(u64, String, u64)>, String> {
    let holders = object["shared_holders"].as_array();
    let holders = holders.ok_or_else(|| format!("nobody holds it: {object:#}"))?;
    let holder = |holder: &Value| {
        let comm = holder["comm"].as_str()?.to_owned();
        Some((holder["pid"].as_u64()?, comm, holder["count"].as_u64()?))
    };
    let holders: Option<Vec<_>> = holders.iter().map(holder).collect();
    holders.ok_or_else(|| format!("{object:#}"))
}

fn remedy<'a>(object: &'a Value, when: &str) -> Result<&'a Value, String> {
    let remedies = object["remedy"].as_array().ok_or("no list of remedies")?;
    let found = remedies.iter().find(|remedy| remedy["when"] == when);
    found.ok_or_else(|| format!("nothing {when}: {object:#}"))
}

/// What to type.
fn command(object: &Value, when: &str) -> Result<String, String> {
    let command = remedy(object, when)?["command"].as_str();
    Ok(command
        .ok_or_else(|| format!("nothing to type: {object:#}"))?
        .to_owned())
}

/// What it says in words.
pub(crate) fn why(object: &Value, when: &str) -> Result<String, String> {
    let why = remedy(object, when)?["why"].as_str();
    Ok(why
        .ok_or_else(|| format!("no words: {object:#}"))?
        .to_owned())
}
