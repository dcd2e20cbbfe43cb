//! `fdtrace ls` against what /proc says, and one fd of every kind that is easily had.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use libtest_mimic::Trial;
use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    fs::{MemfdFlags, inotify, memfd_create},
    process::{PidfdFlags, getpid, pidfd_open},
    time::{TimerfdClockId, TimerfdFlags, timerfd_create},
};
use serde_json::Value;

use super::{Setting, ensure, gym, tracer, trial};

mod lsof;
mod proc;

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let mut trials = vec![
        trial("ls::kinds", kinds),
        trial("ls::every_kind", every_kind),
        trial("ls::agrees_with_proc", proc::agrees),
        trial("ls::other_ends", other_ends),
        trial("ls::all_other_ends", all_other_ends),
        trial("ls::by_path", by_path),
        trial("ls::by_path_of_another_name", by_path_of_another_name),
        trial("ls::by_path_in_other_mounts", by_path_in_other_mounts),
        trial("ls::count", count),
        trial("ls::count_by_kind", count_by_kind),
        trial("ls::count_with_holders", count_with_holders),
        trial("ls::many_files_by_folder", many_files_by_folder),
        trial("ls::by_state", by_state),
        trial("ls::count_sees_reserved_numbers", count_sees_reserved),
        trial("ls::nothing_is_status_1", nothing),
        trial("ls::by_cgroup", by_cgroup),
    ];
    if !setting.is_guest {
        // A guest has neither lsof nor Python.
        trials.push(trial("ls::agrees_with_lsof", lsof::agrees));
    }
    trials
}

fn ls(arguments: &[&str]) -> Result<Output, String> {
    let mut command = tracer::command();
    command
        .args(["ls", "--json"])
        .args(arguments)
        .stdin(Stdio::null());
    command
        .output()
        .map_err(|error| format!("fdtrace ls: {error}"))
}

fn objects(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let output = ls(arguments)?;
    ensure(output.status.success(), || format!("{output:?}"))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
        .collect()
}

/// The fds of this very process, by number.
fn own() -> Result<BTreeMap<u64, Value>, String> {
    let pid = std::process::id().to_string();
    let by_number = |object: Value| Some((object["fd"].as_u64()?, object));
    Ok(objects(&["-p", &pid])?
        .into_iter()
        .filter_map(by_number)
        .collect())
}

fn fd(file: &impl AsFd) -> u64 {
    u64::try_from(file.as_fd().as_raw_fd()).unwrap_or_default()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("fdtrace-ls-{}-{name}", std::process::id()))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn kinds() -> Result<(), String> {
    let path = temporary("deleted");
    let deleted = File::create(&path).map_err(said)?;
    fs::remove_file(&path).map_err(said)?;
    let directory = File::open("/proc").map_err(said)?;
    let null = File::open("/dev/null").map_err(said)?;
    let (reader, writer) = std::io::pipe().map_err(said)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let connected = TcpStream::connect(listener.local_addr().map_err(said)?).map_err(said)?;
    let tcp6 = TcpListener::bind("[::1]:0");
    let udp = UdpSocket::bind("127.0.0.1:0").map_err(said)?;
    let socket_path = temporary("socket");
    let unix = UnixListener::bind(&socket_path).map_err(said)?;
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(said)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(said)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).map_err(said)?;
    let memory = memfd_create("of-a-test", MemfdFlags::CLOEXEC).map_err(said)?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(said)?;
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).map_err(said)?;
    let seen = own()?;
    let _ = fs::remove_file(&socket_path);
    let wanted = [
        (fd(&deleted), "file"),
        (fd(&directory), "dir"),
        (fd(&null), "char"),
        (fd(&reader), "pipe"),
        (fd(&writer), "pipe"),
        (fd(&listener), "tcp"),
        (fd(&connected), "tcp"),
        (fd(&udp), "udp"),
        (fd(&unix), "unix"),
        (fd(&event), "eventfd"),
        (fd(&poll), "epoll"),
        (fd(&timer), "timerfd"),
        (fd(&memory), "memfd"),
        (fd(&watch), "inotify"),
        (fd(&pidfd), "pidfd"),
    ];
    for (number, kind) in wanted {
        let object = seen
            .get(&number)
            .ok_or_else(|| format!("no fd {number} ({kind})"))?;
        ensure(object["kind"] == kind, || format!("no {kind}: {object}"))?;
    }
    let field = |file: u64, name: &str| {
        seen.get(&file)
            .map_or(Value::Null, |object| object[name].clone())
    };
    let expect = |file: u64, name: &str, wanted: Value| {
        let is = field(file, name);
        ensure(is == wanted, || {
            format!("fd {file}: {name} is {is}, not {wanted}")
        })
    };
    expect(fd(&deleted), "deleted", true.into())?;
    expect(fd(&deleted), "target", path.display().to_string().into())?;
    expect(fd(&deleted), "mode", "w".into())?;
    expect(fd(&reader), "mode", "r".into())?;
    expect(fd(&null), "deleted", false.into())?;
    expect(fd(&timer), "flags", serde_json::json!(["O_NONBLOCK"]))?;
    expect(fd(&event), "cloexec", true.into())?;
    let local = connected.local_addr().map_err(said)?.to_string();
    let remote = connected.peer_addr().map_err(said)?.to_string();
    expect(fd(&connected), "target", local.into())?;
    let peer = field(fd(&connected), "peer");
    ensure(
        peer["address"] == remote && peer["state"] == "established",
        || peer.to_string(),
    )?;
    ensure(field(fd(&listener), "peer")["state"] == "listen", || {
        "no listen".to_owned()
    })?;
    expect(
        fd(&unix),
        "target",
        socket_path.display().to_string().into(),
    )?;
    if let Ok(tcp6) = tcp6 {
        let address = tcp6.local_addr().map_err(said)?.to_string();
        expect(fd(&tcp6), "target", address.into())?;
    }
    Ok(())
}

/// A victim that has one fd of every kind that its kernel can make, and knows which.
fn every_kind() -> Result<(), String> {
    let mut victim = gym::Gym::start(gym::command("kinds"))?;
    let facts = victim.held()?;
    ensure(!facts.kinds.is_empty(), || format!("no kinds: {facts:?}"))?;
    let seen = objects(&["-p", &facts.pid.to_string()])?;
    victim.end()?;
    let kind = |object: &Value| Some((object["fd"].as_u64()?, object["kind"].clone()));
    let seen: BTreeMap<u64, Value> = seen.iter().filter_map(kind).collect();
    for (fd, kind) in &facts.kinds {
        let said = seen.get(fd);
        ensure(said.is_some_and(|said| said == kind), || {
            format!("fd {fd} is of kind {kind}, not {said:?}")
        })?;
    }
    ensure(seen.values().all(|kind| kind != "unknown"), || {
        format!("{seen:?}")
    })
}

fn other_ends() -> Result<(), String> {
    let (reader, writer) = std::io::pipe().map_err(said)?;
    let (one, other) = UnixStream::pair().map_err(said)?;
    let seen = own()?;
    let peer = |file: u64| seen.get(&file).map(|object| object["peer"]["fd"].clone());
    let pairs = [(fd(&reader), fd(&writer)), (fd(&one), fd(&other))];
    for (one, other) in pairs
        .into_iter()
        .chain(pairs.map(|(one, other)| (other, one)))
    {
        ensure(peer(one) == Some(other.into()), || {
            format!("{one}: {:?}", peer(one))
        })?;
    }
    Ok(())
}

/// Who has this file? And who has anything below this directory?
fn by_path() -> Result<(), String> {
    let directory = temporary("directory");
    fs::create_dir(&directory).map_err(said)?;
    let path = directory.join("held");
    let held = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(said)?;
    let linked = temporary("hard-link");
    fs::hard_link(&path, &linked).map_err(said)?;
    for asked in [&path, &directory, &linked] {
        let seen = objects(&[&asked.display().to_string()])?;
        let [object] = &seen[..] else {
            return Err(format!("{}: {seen:#?}", asked.display()));
        };
        let is_right = object["pid"] == std::process::id()
            && object["fd"] == fd(&held)
            && object["flags"]
                .as_array()
                .is_some_and(|flags| flags.contains(&"O_APPEND".into()));
        ensure(is_right, || object.to_string())?;
    }
    fs::remove_file(&linked).map_err(said)?;
    fs::remove_dir_all(&directory).map_err(said)
}

/// A file below a directory that was opened by its name elsewhere; not one that has several names, all of them elsewhere.
fn by_path_of_another_name() -> Result<(), String> {
    let directory = temporary("names");
    let elsewhere = temporary("names-elsewhere");
    for folder in [&directory, &elsewhere] {
        fs::create_dir(folder).map_err(said)?;
    }
    let inside = directory.join("held");
    File::create(&inside).map_err(said)?;
    fs::hard_link(&inside, elsewhere.join("held")).map_err(said)?;
    let held = File::open(elsewhere.join("held")).map_err(said)?;
    let other = File::create(elsewhere.join("other")).map_err(said)?;
    fs::hard_link(elsewhere.join("other"), elsewhere.join("link")).map_err(said)?;
    let seen = objects(&[&directory.display().to_string()]);
    for folder in [&directory, &elsewhere] {
        fs::remove_dir_all(folder).map_err(said)?;
    }
    let seen = seen?;
    let fds: Vec<_> = seen
        .iter()
        .filter_map(|object| object["fd"].as_u64())
        .collect();
    drop(other);
    ensure(fds == [fd(&held)], || format!("{seen:#?}"))
}

/// A process with mounts of its own that holds a file open, until its standard input ends.
struct Elsewhere(std::process::Child);

impl Elsewhere {
    /// `mounts`: what is mounted there, `open`: what is opened then.
    fn start(mounts: &str, open: &str) -> Result<Self, String> {
        let script = format!("{mounts} && exec 9<{open} && echo ready && read line");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(said)?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready).map_err(said)?;
        let elsewhere = Self(child);
        ensure(ready == "ready\n", || format!("{script}: {ready:?}"))?;
        Ok(elsewhere)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A file is what it is under each of its names, in each mount namespace; one of the same name is another.
fn by_path_in_other_mounts() -> Result<(), String> {
    let directory = temporary("mounts");
    fs::create_dir(&directory).map_err(said)?;
    let [path, point] = ["held", "point"].map(|name| directory.join(name));
    for path in [&path, &point] {
        File::create(path).map_err(said)?;
    }
    let (shown, at) = (path.display().to_string(), point.display().to_string());
    let bound = Elsewhere::start(&format!("mount --bind {shown} {at}"), &at)?;
    let folder = directory.display();
    let hidden = format!("mount -t tmpfs none {folder} && echo > {shown}");
    let other = Elsewhere::start(&hidden, &shown)?;
    let seen = objects(&[&shown]);
    let of_point = ls(&[&at]);
    let (bound, other) = ([bound.0.id()], [other.0.id()]);
    let _ = fs::remove_dir_all(&directory);
    let seen = seen?;
    let pids: Vec<_> = seen
        .iter()
        .filter_map(|object| object["pid"].as_u64())
        .collect();
    ensure(pids == bound.map(u64::from), || {
        format!("{pids:?} instead of {bound:?}, {other:?} has another one: {seen:#?}")
    })?;
    // Nobody has what the file is mounted on.
    let of_point = of_point?;
    ensure(of_point.status.code() == Some(1), || {
        format!("{of_point:?}")
    })
}

fn count() -> Result<(), String> {
    let mut holder = gym::command("hold");
    holder.args(["--wait", "--count", "60", "--limit", "64"]);
    let (mut holder, pid) = gym::Gym::start_waiting(holder)?;
    holder.release()?;
    let facts = holder.held()?;
    let seen = objects(&["--count", "-p", &pid.to_string()])?;
    holder.end()?;
    let [object] = &seen[..] else {
        return Err(format!("{seen:#?}"));
    };
    let is_right = object["type"] == "process"
        && object["used"] == facts.used
        && object["open"] == facts.used
        && object["limit"] == 64
        && object["percent"] == facts.used * 100 / 64
        && object["kinds"]["char"].as_u64() >= Some(57);
    ensure(is_right, || object.to_string())
}

/// What fills the table, which a plain count does not read.
fn count_with_holders() -> Result<(), String> {
    let path = temporary("holders");
    let files: Vec<_> = (0..70).map(|_| File::create(&path)).collect();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let pid = std::process::id().to_string();
    let with = objects(&["--count", "--holders", "-p", &pid]);
    let text = tracer::command()
        .args(["ls", "--count", "--holders", "-p", &pid])
        .output()
        .map_err(said)?;
    let without = objects(&["--count", "-p", &pid])?;
    let _ = fs::remove_file(&path);
    let with = with?;
    let object = with.first().ok_or("no process")?;
    let holders = object["holders"].as_array().ok_or(object.to_string())?;
    let is_first = holders.first().is_some_and(|holder| {
        holder["kind"] == "file"
            && holder["count"] == files.len()
            && holder["target"] == path.display().to_string()
            && holder["oldest_s"].is_null()
    });
    ensure(is_first, || object.to_string())?;
    let port = listener.local_addr().map_err(said)?.port();
    let total: u64 = holders
        .iter()
        .filter_map(|holder| holder["count"].as_u64())
        .sum();
    let listens = |holder: &Value| holder["target"] == format!("*:{port}");
    ensure(
        Some(total) == object["open"].as_u64() && holders.iter().any(listens),
        || object.to_string(),
    )?;
    let row = format!("{:>17}  file      {}\n", files.len(), path.display());
    let text = String::from_utf8_lossy(&text.stdout);
    ensure(text.contains(&row), || text.into_owned())?;
    let is_plain = without.iter().all(|object| object["holders"].is_null());
    ensure(is_plain, || format!("{without:?}"))
}

/// Files of a folder that are deleted while they are open.
fn many_files_by_folder() -> Result<(), String> {
    let folder = temporary("spool");
    fs::create_dir(&folder).map_err(said)?;
    let mut files = Vec::new();
    for number in 0..40 {
        let path = folder.join(format!("msg{number}"));
        files.push(File::create(&path).map_err(said)?);
        fs::remove_file(&path).map_err(said)?;
    }
    let pid = std::process::id().to_string();
    let seen = objects(&["--count", "--holders", "--kind", "file", "-p", &pid]);
    let _ = fs::remove_dir(&folder);
    let seen = seen?;
    let object = seen.first().ok_or("no process")?;
    let of_folder = |holder: &Value| {
        let mut folders = holder["folders"].as_array().into_iter().flatten();
        folders.any(|it| {
            it["path"] == folder.display().to_string()
                && it["pattern"] == "msg*"
                && it["count"] == files.len()
                && it["deleted"] == files.len()
        })
    };
    let holders = object["holders"].as_array();
    let rows = holders.into_iter().flatten();
    ensure(rows.filter(|holder| of_folder(holder)).count() == 1, || {
        object.to_string()
    })
}

/// A client that keeps what the server has closed.
fn by_state() -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let address = listener.local_addr().map_err(said)?;
    let mut client = TcpStream::connect(address).map_err(said)?;
    drop(listener.accept().map_err(said)?);
    // The end of what it has sent has come.
    let read = std::io::Read::read(&mut client, &mut [0]).map_err(said)?;
    let pid = std::process::id().to_string();
    let number = client.as_raw_fd();
    let seen = objects(&["-p", &pid, "--state", "CLOSE_WAIT"])?;
    let is_it = |object: &&Value| object["fd"] == number;
    let found = seen.iter().find(is_it).ok_or(format!("{seen:?}"))?;
    let are_all = seen
        .iter()
        .all(|object| object["peer"]["state"] == "close-wait");
    ensure(are_all && read == 0, || format!("{seen:?}"))?;
    let counted = objects(&["-p", &pid, "--count", "--holders", "--state", "close-wait"])?;
    let holders = counted.first().ok_or("no process")?["holders"].clone();
    let rows = holders.as_array().into_iter().flatten();
    let mut rows = rows.filter(|row| row["target"] == address.to_string());
    let is_right = rows.any(|row| row["state"] == "close-wait" && row["states"]["close-wait"] == 1);
    ensure(is_right, || format!("{holders} of {found}"))?;
    let others = objects(&["-p", &pid, "--state", "established,listen"])?;
    ensure(!others.iter().any(|object| object["fd"] == number), || {
        format!("{others:?}")
    })
}

/// A thread that waits in accept holds a number that is not open.
fn count_sees_reserved() -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let address = listener.local_addr().map_err(said)?;
    let waiting = std::thread::spawn(move || listener.accept().map(drop));
    let pid = std::process::id().to_string();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let seen = objects(&["--count", "-p", &pid])?;
        let object = seen.first().ok_or("no process")?;
        let (used, open) = (object["used"].as_u64(), object["open"].as_u64());
        if used == open.map(|open| open + 1) {
            break;
        }
        // When the thread gets to its accept, nothing tells.
        ensure(std::time::Instant::now() < deadline, || object.to_string())?;
    }
    TcpStream::connect(address).map_err(said)?;
    waiting
        .join()
        .map_err(|_| "the thread has panicked")?
        .map_err(said)
}

fn nothing() -> Result<(), String> {
    let path = temporary("nobody-has-it");
    File::create(&path).map_err(said)?;
    let output = ls(&[&path.display().to_string()]);
    fs::remove_file(&path).map_err(said)?;
    let output = output?;
    let is_right =
        output.status.code() == Some(1) && output.stdout.is_empty() && output.stderr.is_empty();
    ensure(is_right, || format!("{output:?}"))?;
    let output = ls(&["/no/such/path"])?;
    let names_it = String::from_utf8_lossy(&output.stderr).contains("/no/such/path");
    let is_right = output.status.code() == Some(2) && output.stdout.is_empty() && names_it;
    ensure(is_right, || format!("{output:?}"))
}

/// All other ends of a pipe, of processes that nobody has asked for too.
fn all_other_ends() -> Result<(), String> {
    let (reader, writer) = std::io::pipe().map_err(said)?;
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let mut command = gym::command("openat");
            command.arg("--wait");
            command.stderr(writer.try_clone().map_err(said)?);
            gym::Gym::start_waiting(command)
        })
        .collect::<Result<_, String>>()?;
    drop(writer);
    let pid = std::process::id().to_string();
    let seen = objects(&["-p", &pid, "--kind", "pipe"])?;
    let expected: Vec<_> = writers.iter().map(|(_, pid)| u64::from(*pid)).collect();
    for (writer, _) in writers {
        writer.finish()?;
    }
    let own = seen.iter().find(|object| object["fd"] == fd(&reader));
    let own = own.ok_or_else(|| format!("no reader: {seen:#?}"))?;
    let peers = own["peers"].as_array().ok_or_else(|| own.to_string())?;
    let pids: Vec<_> = peers
        .iter()
        .filter_map(|peer| peer["pid"].as_u64())
        .collect();
    // A process that is just being started can have it too.
    let has_all = expected.iter().all(|pid| pids.contains(pid));
    ensure(has_all && own["peers_total"].as_u64() >= Some(3), || {
        format!("{expected:?}: {own}")
    })
}

/// A choice of kinds changes no other number, and threads of the kernel are no tables that anybody fills.
fn count_by_kind() -> Result<(), String> {
    let (_reader, _writer) = std::io::pipe().map_err(said)?;
    let pid = std::process::id().to_string();
    let all = objects(&["--count", "-p", &pid])?;
    let pipes = objects(&["--count", "--kind", "pipe", "-p", &pid])?;
    let (Some(all), Some(pipes)) = (all.first(), pipes.first()) else {
        return Err(format!("{all:?} {pipes:?}"));
    };
    let of_table = |object: &Value| [object["used"].clone(), object["open"].clone()];
    let kinds = pipes["kinds"]
        .as_object()
        .ok_or_else(|| pipes.to_string())?;
    let is_right = of_table(all) == of_table(pipes)
        && kinds.len() == 1
        && kinds["pipe"] == all["kinds"]["pipe"]
        && all["uid"] == rustix::process::getuid().as_raw();
    ensure(is_right, || format!("{all} {pipes}"))?;
    let threads = objects(&["--count"])?;
    let of_kernel = threads.iter().find(|object| object["pid"] == 2);
    ensure(of_kernel.is_none_or(|object| object["open"] != 0), || {
        format!("kthreadd: {of_kernel:?}")
    })?;
    ensure(
        threads
            .iter()
            .any(|object| object["pid"] == std::process::id()),
        || "not this process".to_owned(),
    )
}

fn by_cgroup() -> Result<(), String> {
    let mount = fdtrace::probe::cgroup::mount_point().ok_or("no cgroup v2 hierarchy")?;
    let name = format!("fdtrace-ls-{}", std::process::id());
    let directory = mount.join(&name);
    fs::create_dir(&directory).map_err(said)?;
    let empty = ls(&["--cgroup", &name])?;
    let (victim, pid) = gym::Gym::waiting::<&str>("openat", &[])?;
    fs::write(directory.join("cgroup.procs"), pid.to_string()).map_err(said)?;
    let seen = objects(&["--cgroup", &name]);
    let own = std::process::id().to_string();
    let nobody = ls(&["--cgroup", &name, "-p", &own]);
    victim.finish()?;
    let _ = fs::remove_dir(&directory);
    ensure(empty.status.code() == Some(1), || format!("{empty:?}"))?;
    let nobody = nobody?;
    ensure(nobody.status.code() == Some(1), || {
        format!("both filters must match: {nobody:?}")
    })?;
    let seen = seen?;
    ensure(
        seen.iter()
            .all(|object| object["cgroup"] == format!("/{name}")),
        || format!("{seen:#?}"),
    )?;
    let pids: BTreeSet<_> = seen
        .iter()
        .filter_map(|object| object["pid"].as_u64())
        .collect();
    ensure(pids == BTreeSet::from([u64::from(pid)]), || {
        format!("{pids:?}")
    })
}
