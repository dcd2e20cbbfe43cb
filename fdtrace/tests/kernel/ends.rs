//! Who has the other ends of the pipes and unix sockets that fill a table.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{Setting, ensure, limits::Running, programs::clean, tracer::Tracer, trial};

/// Connects to a child: 20 connections that it keeps, 2 that it closes, 3 that it does not accept; and 2 pairs of its
/// own. Then it fills its table, when it is told to.
const SOCKETS: &str = "import os, socket, sys, time\n\
    def connect():\n\
    \x20   client = socket.socket(socket.AF_UNIX)\n\
    \x20   client.connect(path)\n\
    \x20   return client\n\
    path = '\\0fdtrace-ends-%d' % os.getpid()\n\
    listener = socket.socket(socket.AF_UNIX)\n\
    listener.bind(path)\n\
    listener.listen(64)\n\
    ready, tell = os.pipe()\n\
    if (child := os.fork()) == 0:\n\
    \x20   open('/proc/self/comm', 'w').write('a_server')\n\
    \x20   taken = [listener.accept()[0] for _ in range(22)]\n\
    \x20   taken[20].close(); taken[21].close()\n\
    \x20   os.write(tell, b'x'); os.close(tell); os.close(ready)\n\
    \x20   taken[0].recv(1)\n\
    \x20   os._exit(0)\n\
    listener.close()\n\
    clients = [connect() for _ in range(22)]\n\
    os.read(ready, 1); os.close(tell); os.close(ready)\n\
    clients += [connect() for _ in range(3)]\n\
    pairs = [socket.socketpair() for _ in range(2)]\n\
    print(child, flush=True)\n\
    sys.stdin.readline()\n\
    kept, end = [], time.time() + 120\n\
    while time.time() < end:\n\
    \x20   try: kept.append(open('/dev/null'))\n\
    \x20   except OSError: time.sleep(0.5)\n";

/// Receives files from a child until none finds a number.
const FILES: &str = "import os, socket, sys\n\
    ours, theirs = socket.socketpair()\n\
    if (child := os.fork()) == 0:\n\
    \x20   open('/proc/self/comm', 'w').write('a_sender')\n\
    \x20   ours.close()\n\
    \x20   file = open('/dev/null')\n\
    \x20   for _ in range(100): socket.send_fds(theirs, [b'x'], [file.fileno()])\n\
    \x20   theirs.recv(1)\n\
    \x20   os._exit(0)\n\
    theirs.close()\n\
    print(child, flush=True)\n\
    sys.stdin.readline()\n\
    kept = [socket.recv_fds(ours, 1, 1) for _ in range(100)]\n\
    sys.stdin.readline()\n";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("ends::{name}"), move || test(&setting))
    };
    if setting.is_guest {
        // Few guests have Python, and none all of it.
        let has_python = Path::new("/usr/bin/python3").exists();
        if !has_python {
            return Vec::new();
        }
        return vec![
            test("unix_sockets_of_a_server", unix_sockets),
            // Only hooks see that files are dropped.
            test("files_of_a_sender", files_of_a_sender),
        ];
    }
    vec![
        test("pipes_of_a_forgotten_child", pipes_of_a_forgotten_child),
        test("unix_sockets_of_a_server", unix_sockets),
    ]
}

/// Starts a script that waits for a line once it has told its child, and lets it go on; the child.
fn start(script: &str) -> Result<(Running, u64), String> {
    let mut command = Command::new("sh");
    // `-S`: a guest has not all of Python.
    command.args(["-c", "ulimit -n 64; exec python3 -S -c \"$0\"", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut victim = Running::start(&mut command)?;
    let child: u64 = victim.line()?.parse().map_err(|error| format!("{error}"))?;
    let stdin = victim.0.stdin.as_mut().ok_or("no stdin")?;
    stdin.write_all(b"\n").map_err(|error| error.to_string())?;
    Ok((victim, child))
}

/// The process that keeps sending files is named with those that were dropped.
fn files_of_a_sender(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (victim, child) = start(FILES)?;
    let pid = victim.0.id();
    let object = tracer.wait_for(|object| object["type"] == "exhausted" && object["pid"] == pid)?;
    drop(victim);
    let sender = json!([{ "pid": child, "comm": "a_sender" }]);
    let sent = &object["sent_by"];
    let is_right = object["silent"] == "msg_ctrunc" && sent["processes"] == sender;
    ensure(is_right, || format!("{object:#}"))?;
    tracer.stop().map(drop)
}

/// Where hooks tell every change, all of it is in the first report; where only looks show tables, who has the other ends may
/// come with a later one.
fn unix_sockets(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &[])?;
    let (mut victim, child) = start(SOCKETS)?;
    let pid = victim.0.id();
    let expected = json!({
        "others": [{ "pid": child, "comm": "a_server", "count": 20 }],
        "total": 1, "own": 4, "closed": 2, "waiting": 3, "unknown": 0,
    });
    let is_first_right = setting.sees_inside_calls();
    let object = tracer.wait_for(|object| {
        object["type"] == "exhausted"
            && object["pid"] == pid
            && (is_first_right || object["unix_ends"] == expected)
    });
    let _ = victim.0.kill();
    let object = object?;
    let ends: &Value = &object["unix_ends"];
    ensure(*ends == expected, || format!("{object:#}"))?;
    drop(victim);
    tracer.stop().map(drop)
}

/// A child that nobody waits for keeps the other ends of most of what fills the table.
fn pipes_of_a_forgotten_child(setting: &Setting) -> Result<(), String> {
    let script = "import ctypes, os, resource, sys, time\n\
                  resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n\
                  pipes = [os.pipe() for _ in range(20)]\n\
                  child = os.fork()\n\
                  if child == 0:\n    \
                      ctypes.CDLL(None).prctl(15, b'a_child', 0, 0, 0)\n    \
                      for read, _ in pipes: os.close(read)\n    \
                      sys.stdin.readline(); os._exit(0)\n\
                  for _, write in pipes: os.close(write)\n\
                  closed = [os.pipe() for _ in range(5)]\n\
                  for _, write in closed: os.close(write)\n\
                  print(child, flush=True)\n\
                  kept, end = [], time.time() + 20\n\
                  while time.time() < end:\n    \
                      try: kept.append(open('/dev/null'))\n    \
                      except OSError: time.sleep(0.5)\n";
    let tracer = Tracer::start(&setting.backend, &[])?;
    let mut command = clean("python3");
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut victim = Running::start(&mut command)?;
    let child: u64 = victim.line()?.parse().map_err(|error| format!("{error}"))?;
    let pid = victim.0.id();
    // Where only snapshots show tables, the first reports may know nothing of these.
    let object = tracer.wait_for(|object| {
        let ends = &object["pipe_ends"];
        object["type"] == "exhausted" && object["pid"] == pid && ends["closed"] == 5
    });
    let _ = victim.0.kill();
    let object = object?;
    let ends = &object["pipe_ends"];
    let others = ends["others"].as_array().ok_or("nobody has them")?;
    let first = others.first().ok_or_else(|| ends.to_string())?;
    let is_right =
        first["pid"] == child && first["comm"] == "a_child" && first["count"].as_u64() >= Some(20);
    ensure(is_right, || ends.to_string())?;
    drop(victim);
    tracer.stop().map(drop)
}
