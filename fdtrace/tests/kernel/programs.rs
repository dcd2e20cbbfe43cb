//! Real programs at their limit, on the host: what an operator would see.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use super::{Setting, ensure, tracer::Tracer, trial};

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if setting.is_guest {
        // A guest has busybox and nothing else.
        return Vec::new();
    }
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("programs::{name}"), move || test(&setting))
    };
    vec![test("python", python), test("nginx", nginx)]
}

/// A program that inherits nothing but 0, 1 and 2: what the test itself has open must not count.
pub(crate) fn clean(program: &str) -> Command {
    let launcher =
        "import os, sys; os.closerange(3, 1 << 16); os.execvp(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", launcher, program]);
    command
}

/// A script that opens until it fails, as in everybody's first encounter.
fn python(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["-n", "python3"])?;
    let script = "files = []\nwhile True: files.append(open('/etc/hostname'))";
    let output = clean("sh")
        .args(["-c", "ulimit -Sn 64; exec python3 -c \"$0\"", script])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure(told.contains("Errno 24"), || {
        format!("python3 did not run out of fds: {told}")
    })?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted")?;
    tracer.stop()?;
    let exe = object["exe"].as_str().unwrap_or_default();
    let is_right = object["call"] == "openat"
        && object["cause"] == "rlimit_nofile"
        && object["used"] == 64
        && object["limit"]["soft"] == 64
        && Path::new(exe)
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("python3"));
    ensure(is_right, || object.to_string())
}

/// A server with too small a limit under load: its workers fail in accept.
fn nginx(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["-n", "nginx"])?;
    let server = Server::start()?;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let load = Command::new("wrk")
        .args([
            "--threads",
            "1",
            "--connections",
            "100",
            "--duration",
            "2s",
            &url,
        ])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("wrk: {error}"))?;
    ensure(load.success(), || format!("wrk ended with {load}"))?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted")?;
    tracer.stop()?;
    let pid = object["pid"].as_u64().unwrap_or_default();
    let is_right = object["call"] == "accept4"
        && object["cause"] == "rlimit_nofile"
        && object["comm"] == "nginx"
        && object["limit"]["soft"] == 32
        && object["used"] == 32
        && object["exe"] == "/usr/sbin/nginx"
        && pid != u64::from(server.child.id());
    ensure(is_right, || object.to_string())
}

/// nginx on a free port of loopback, with a folder of its own; it ends when this is dropped.
struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        drop(listener);
        let folder = std::env::temp_dir().join(format!("fdtrace-nginx-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, configuration_text(port, &folder))
            .map_err(|error| error.to_string())?;
        let child = clean("/usr/sbin/nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx: {error}"))?;
        let server = Self {
            child,
            port,
            folder,
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
                stream.read(&mut [0; 16])
            });
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(format!("nginx: {error}")),
                // A refused connection is no event that could be waited for.
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration_text(port: u16, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile 32;\n\
         pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n client_body_temp_path {folder}/body;\n\
         proxy_temp_path {folder}/proxy;\n fastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\n scgi_temp_path {folder}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }} }}\n}}\n"
    )
}
