//! `fdtrace relieve`: what it refuses, what it raises, and what becomes of the process.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure,
    gym::Gym,
    tracer, trial,
    victim::{self, Server, Waits},
};

/// Divides the seconds that it looks and watches.
const SCALE: &str = "4";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("relieve::{name}"), move || test(&setting))
    };
    let mut trials = vec![
        test("raises", raises),
        test("refuses_select", refuses_select),
    ];
    if setting.is_guest {
        // Settings of the whole host; a right that not every root has.
        trials.push(test("raises_the_hard_limit", raises_the_hard_limit));
        trials.push(test("go_program", go_program));
    }
    if setting.is_guest || !victim::can_build() {
        println!("skipped: relieve:: of servers: no compiler here");
        return trials;
    }
    trials.extend([
        test("kills_a_server_with_select_if_forced", kills_if_forced),
        test("server_goes_on_and_is_set_back", goes_on_and_is_set_back),
        test("master_and_workers", master_and_workers),
        test("lowers_again_after_its_time", lowers_again),
        test("not_another_process", not_another_process),
        test("process_that_ends_meanwhile", ends_meanwhile),
        test("without_the_right", without_the_right),
        test("beyond_nr_open", beyond_nr_open),
        test("in_another_user_namespace", in_another_user_namespace),
    ]);
    trials
}

/// A folder for records, removed when dropped.
struct Records(PathBuf);

impl Records {
    fn new(name: &str) -> Self {
        let name = format!("fdtrace-relieve-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn of(&self, pid: u32) -> Option<PathBuf> {
        let mut entries = fs::read_dir(&self.0).ok()?.flatten();
        let start = format!("{pid}-");
        let entry = entries.find(|it| it.file_name().to_string_lossy().starts_with(&start));
        Some(entry?.path())
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // There is none where nothing was raised.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(setting: &Setting, records: &Records, arguments: &[&str]) -> Command {
    let mut command = tracer::command();
    command
        .args(["relieve", "--json", "--time-scale", SCALE, "--records"])
        .arg(&records.0)
        .args(["--backend", &setting.backend])
        .args(arguments);
    command
}

struct Answer {
    status: Option<i32>,
    objects: Vec<Value>,
    stderr: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        Self {
            status: output.status.code(),
            objects: lines
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn ends(&self, status: i32, end: &str) -> Result<(), String> {
        let all_are = !self.objects.is_empty() && self.objects.iter().all(|it| it["end"] == end);
        ensure(self.status == Some(status) && all_are, || {
            format!("{:?} {:#?} {}", self.status, self.objects, self.stderr)
        })
    }

    /// What this check of the first process has come to.
    fn check(&self, name: &str) -> Option<&str> {
        let checks = self.objects.first()?["checks"].as_array()?;
        let check = checks.iter().find(|check| check["check"] == name)?;
        check["outcome"].as_str()
    }
}

fn relieve(setting: &Setting, records: &Records, arguments: &[&str]) -> Result<Answer, String> {
    let output = command(setting, records, arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("starting fdtrace: {error}"))?;
    Ok(Answer::of(&output))
}

/// Soft and hard limit of a process.
fn limits(pid: u32) -> Result<(u64, u64), String> {
    let path = format!("/proc/{pid}/limits");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut fields = line.unwrap_or_default().split_whitespace().skip(3);
    let mut field = || fields.next().and_then(|field| field.parse().ok());
    field().zip(field()).ok_or(text)
}

fn is_limit(pid: u32, soft: u64) -> Result<(), String> {
    let limits = limits(pid)?;
    ensure(limits.0 == soft, || {
        format!("{limits:?} of {pid} instead of {soft}")
    })
}

/// A program that has run out goes on.
fn raises(setting: &Setting) -> Result<(), String> {
    let records = Records::new("raises");
    let (mut victim, pid) = Gym::waiting("retry_dup", &["--limit", "64"])?;
    victim.release()?;
    victim::until_open(pid, 64)?;
    let number = pid.to_string();
    relieve(setting, &records, &[&number])?.ends(0, "safe")?;
    is_limit(pid, 64)?;
    let raised = relieve(setting, &records, &[&number, "--yes"])?;
    raised.ends(0, "done")?;
    is_limit(pid, 4_096)?;
    let seen = &raised.objects[0]["seen"];
    ensure(seen["fails"] == false && seen["ended_s"].is_null(), || {
        seen.to_string()
    })?;
    let facts = victim.finish()?;
    ensure(facts.failures == 1, || format!("{facts:?}"))
}

fn raises_the_hard_limit(setting: &Setting) -> Result<(), String> {
    let records = Records::new("hard");
    let (mut victim, pid) = Gym::waiting("retry_dup", &["--limit", "64"])?;
    victim.release()?;
    victim::until_open(pid, 64)?;
    let (_, hard) = limits(pid)?;
    let to = (hard + 1_000).to_string();
    let number = pid.to_string();
    relieve(setting, &records, &[&number, "--to", &to, "--yes"])?.ends(0, "done")?;
    let raised = limits(pid)?;
    ensure(raised == (hard + 1_000, hard + 1_000), || {
        format!("{raised:?}")
    })?;
    relieve(setting, &records, &["--undo", &number, "--yes", "--force"])?.ends(0, "undone")?;
    let back = limits(pid)?;
    ensure(back == (64, hard), || format!("{back:?}"))?;
    relieve(setting, &records, &[&number, "--to", "128", "--yes"])?.ends(0, "done")?;
    victim.finish().map(drop)
}

/// Go raises the soft limit to the hard one at the start: only a higher hard limit helps.
fn go_program(setting: &Setting) -> Result<(), String> {
    let records = Records::new("go");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec /victims/early /etc/passwd"]);
    let (mut victim, pid) = Gym::start_waiting(command)?;
    victim.release()?;
    victim.held()?;
    let raised = relieve(setting, &records, &[&pid.to_string(), "--yes"])?;
    raised.ends(0, "done")?;
    ensure(raised.check("runtime") == Some("warning"), || {
        format!("{:#?}", raised.objects)
    })?;
    let limits = limits(pid)?;
    ensure(limits == (4_096, 4_096), || format!("{limits:?}"))?;
    victim.end()
}

/// Seen to wait in select while it is looked at.
fn refuses_select(setting: &Setting) -> Result<(), String> {
    let records = Records::new("select");
    let (victim, pid) = Gym::waiting::<&str>("select_dup", &[])?;
    let number = pid.to_string();
    let refused = relieve(setting, &records, &[&number, "--yes"])?;
    refused.ends(1, "refused")?;
    ensure(refused.check("select") == Some("refused"), || {
        format!("{:#?}", refused.objects)
    })?;
    is_limit(pid, 1_024)?;
    ensure(records.of(pid).is_none(), || {
        "a record of nothing".to_owned()
    })?;
    victim.end()
}

/// What the check is for.
fn kills_if_forced(setting: &Setting) -> Result<(), String> {
    let records = Records::new("forced");
    let mut server = Server::start(Waits::Select, 1_024, "", "0")?;
    let _clients = server.clients(1_100)?;
    victim::until_open(server.pid(), 1_024)?;
    let number = server.pid().to_string();
    relieve(setting, &records, &[&number, "--yes"])?.ends(1, "refused")?;
    is_limit(server.pid(), 1_024)?;
    let done = relieve(setting, &records, &[&number, "--yes", "--force"])?;
    done.ends(2, "done")?;
    let seen = &done.objects[0]["seen"];
    ensure(seen["ended_s"].is_number() && seen["signal"] == 6, || {
        seen.to_string()
    })?;
    let status = server.child.wait().map_err(|error| error.to_string())?;
    ensure(status.signal() == Some(6), || format!("{status}"))
}

fn goes_on_and_is_set_back(setting: &Setting) -> Result<(), String> {
    let records = Records::new("server");
    let server = Server::start(Waits::Epoll, 1_024, "", "0")?;
    let _clients = server.clients(1_100)?;
    victim::until_open(server.pid(), 1_024)?;
    let (pid, number) = (server.pid(), server.pid().to_string());
    let dry = relieve(setting, &records, &[&number])?;
    dry.ends(0, "safe")?;
    ensure(dry.check("cause") == Some("ok"), || {
        format!("{:#?}", dry.objects)
    })?;
    is_limit(pid, 1_024)?;
    let done = relieve(setting, &records, &[&number, "--yes"])?;
    done.ends(0, "done")?;
    is_limit(pid, 4_096)?;
    let seen = &done.objects[0]["seen"];
    let goes_on = seen["open"].as_u64().is_some_and(|open| open > 1_100);
    ensure(goes_on && seen["fails"] == false, || seen.to_string())?;
    // So many are open that it could open no more.
    let undo = ["--undo", &number, "--yes"];
    let kept = relieve(setting, &records, &undo)?;
    ensure(
        kept.status == Some(1) && kept.stderr.contains("fds open"),
        || kept.stderr.clone(),
    )?;
    is_limit(pid, 4_096)?;
    let file = records.of(pid).ok_or("no record")?;
    let file = file.to_string_lossy().into_owned();
    let back = relieve(setting, &records, &["--undo", &file, "--yes", "--force"])?;
    back.ends(0, "undone")?;
    is_limit(pid, 1_024)?;
    let again = relieve(setting, &records, &undo)?;
    ensure(again.status == Some(2), || {
        format!("{:?} {}", again.status, again.stderr)
    })
}

/// Workers that are forked later have their master's limit.
fn master_and_workers(setting: &Setting) -> Result<(), String> {
    let records = Records::new("prefork");
    let server = Server::start(Waits::Epoll, 256, "", "2")?;
    let _clients = server.clients(600)?;
    let workers = victim::children(server.pid())?;
    ensure(workers.len() == 2, || format!("{workers:?}"))?;
    for worker in &workers {
        victim::until_open(*worker, 256)?;
    }
    let number = workers[0].to_string();
    let alone = relieve(setting, &records, &[&number])?;
    alone.ends(0, "safe")?;
    let done = relieve(setting, &records, &[&number, "--tree", "--yes"])?;
    done.ends(0, "done")?;
    ensure(done.objects.len() == 3, || format!("{:#?}", done.objects))?;
    for pid in workers.into_iter().chain([server.pid()]) {
        is_limit(pid, 4_096)?;
    }
    Ok(())
}

fn lowers_again(setting: &Setting) -> Result<(), String> {
    let records = Records::new("for");
    let server = Server::start(Waits::Epoll, 100, "", "0")?;
    let mut clients = server.clients(80)?;
    victim::until_open(server.pid(), 83)?;
    let (pid, number) = (server.pid(), server.pid().to_string());
    let lowered = relieve(setting, &records, &[&number, "--yes", "--for", "1s"])?;
    let ends: Vec<_> = lowered.objects.iter().map(|it| &it["end"]).collect();
    ensure(
        lowered.status == Some(0) && ends == ["done", "undone"],
        || format!("{:?} {ends:?} {}", lowered.status, lowered.stderr),
    )?;
    is_limit(pid, 100)?;
    ensure(records.of(pid).is_none(), || {
        "the record is still there".to_owned()
    })?;
    // With more open by then, it stays.
    let more = command(setting, &records, &[&number, "--yes", "--for", "1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    victim::until(|| Ok(limits(pid)?.0 == 4_096))?;
    clients.extend(server.clients(60)?);
    let kept = more.wait_with_output().map_err(|error| error.to_string())?;
    let kept = Answer::of(&kept);
    let ends: Vec<_> = kept.objects.iter().map(|it| &it["end"]).collect();
    ensure(kept.status == Some(1) && ends == ["done", "kept"], || {
        format!("{:?} {ends:?} {}", kept.status, kept.stderr)
    })?;
    is_limit(pid, 4_096)
}

/// The number is another process's by now.
fn not_another_process(setting: &Setting) -> Result<(), String> {
    let records = Records::new("reuse");
    let server = Server::start(Waits::Epoll, 100, "", "0")?;
    let _clients = server.clients(80)?;
    victim::until_open(server.pid(), 83)?;
    let (pid, number) = (server.pid(), server.pid().to_string());
    relieve(setting, &records, &[&number, "--yes"])?.ends(0, "done")?;
    let file = records.of(pid).ok_or("no record")?;
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let mut record: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let started = record["started"].as_u64().ok_or("no start")?;
    record["started"] = (started - 1).into();
    fs::write(&file, record.to_string()).map_err(|error| error.to_string())?;
    let path = file.to_string_lossy().into_owned();
    let refused = relieve(setting, &records, &["--undo", &path, "--yes", "--force"])?;
    ensure(
        refused.status == Some(1) && refused.stderr.contains("another"),
        || format!("{:?} {}", refused.status, refused.stderr),
    )?;
    is_limit(pid, 4_096)
}

fn ends_meanwhile(setting: &Setting) -> Result<(), String> {
    let records = Records::new("ends");
    let server = Server::start(Waits::Epoll, 100, "", "0")?;
    let number = server.pid().to_string();
    let mut relieve: Child = command(setting, &records, &[&number, "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stderr = BufReader::new(relieve.stderr.take().ok_or("no stderr")?);
    let (mut said, mut line) = (String::new(), String::new());
    while !line.contains("looking for") {
        said.push_str(&line);
        line.clear();
        let read = stderr.read_line(&mut line);
        ensure(read.is_ok_and(|read| read > 0), || {
            format!("it did not look: {said}")
        })?;
    }
    drop(server);
    let output = relieve
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    line.clear();
    let _ = stderr.read_line(&mut line);
    ensure(
        output.status.code() == Some(2) && line.contains("has ended"),
        || format!("{} {line}", output.status),
    )
}

/// Root without `CAP_SYS_RESOURCE`, as in many containers, and another user's process.
fn without_the_right(setting: &Setting) -> Result<(), String> {
    let records = Records::new("rights");
    let server = Server::start(Waits::Epoll, 100, "exec setpriv --reuid=65534", "0")?;
    let number = server.pid().to_string();
    let fdtrace = command(setting, &records, &[&number, "--yes", "--force"]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]);
    command.arg(fdtrace.get_program()).args(fdtrace.get_args());
    let output = command
        .output()
        .map_err(|error| format!("setpriv: {error}"))?;
    let refused = Answer::of(&output);
    refused.ends(1, "refused")?;
    ensure(refused.check("rights") == Some("impossible"), || {
        format!("{:#?}", refused.objects)
    })?;
    is_limit(server.pid(), 100)
}

fn beyond_nr_open(setting: &Setting) -> Result<(), String> {
    let records = Records::new("nr_open");
    let nr_open = fs::read_to_string(super::remedy::NR_OPEN).map_err(|error| error.to_string())?;
    let nr_open: u64 = nr_open.trim().parse().map_err(|_| nr_open.clone())?;
    let server = Server::start(Waits::Epoll, 100, "", "0")?;
    let (number, to) = (server.pid().to_string(), (nr_open + 1).to_string());
    let refused = relieve(
        setting,
        &records,
        &[&number, "--to", &to, "--yes", "--force"],
    )?;
    refused.ends(1, "refused")?;
    ensure(refused.check("nr_open") == Some("impossible"), || {
        format!("{:#?}", refused.objects)
    })?;
    is_limit(server.pid(), 100)
}

fn in_another_user_namespace(setting: &Setting) -> Result<(), String> {
    let can_make = Command::new("unshare").args(["--user", "true"]).status();
    if !Path::new("/proc/self/ns/user").exists() || !can_make.is_ok_and(|it| it.success()) {
        println!("skipped: relieve::in_another_user_namespace: none can be made here");
        return Ok(());
    }
    let records = Records::new("userns");
    let server = Server::start(
        Waits::Epoll,
        100,
        "exec unshare --user --map-root-user",
        "0",
    )?;
    let _clients = server.clients(80)?;
    victim::until_open(server.pid(), 83)?;
    let refused = relieve(setting, &records, &[&server.pid().to_string(), "--yes"])?;
    refused.ends(1, "refused")?;
    ensure(refused.check("userns") == Some("refused"), || {
        format!("{:#?}", refused.objects)
    })?;
    is_limit(server.pid(), 100)
}
