//! nginx, whose workers have a limit of their own: `worker_rlimit_nofile`.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Folder, PATIENCE, Service, ensure, free_port, may_raise_hard_limits, type_now};
use crate::{Setting, limits::why, tracer::Tracer};

/// A server with too small a limit under load: its workers fail in accept.
pub(super) fn serves(setting: &Setting) -> Result<(), String> {
    let tracer = Tracer::start(&setting.backend, &["-n", "nginx"])?;
    let (service, port) = start("nginx", 32, "return 200 'ok';")?;
    let url = format!("http://127.0.0.1:{port}/");
    let load = Command::new("wrk")
        .args(["--threads", "1", "--connections", "100"])
        .args(["--duration", "2s", &url])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("wrk: {error}"))?;
    ensure(load.success(), || format!("wrk ended with {load}"))?;
    let object = tracer.wait_for(|object| object["type"] == "exhausted")?;
    tracer.stop()?;
    let is_right = object["call"] == "accept4"
        && object["cause"] == "rlimit_nofile"
        && object["comm"] == "nginx"
        && object["limit"]["soft"] == 32
        && object["used"] == 32
        && object["exe"] == "/usr/sbin/nginx"
        && object["pid"] != service.pid();
    ensure(is_right, || object.to_string())?;
    // The worker has set its limit itself, as its configuration says; there it is changed.
    let limit = &object["limit"];
    let is_own = limit["origin"] == "self"
        && limit["parent"]["pid"] == service.pid()
        && limit["parent"]["comm"] == "nginx";
    ensure(is_own, || object.to_string())?;
    let why = why(&object, "permanent")?;
    let line = why.split('`').nth(1).unwrap_or_default();
    ensure(line.starts_with("worker_rlimit_nofile "), || why.clone())?;
    reload(service, port, line)
}

/// Puts this line in place of the one that limits its workers, and waits until one has that limit.
fn reload(mut service: Service, port: u16, line: &str) -> Result<(), String> {
    let text = configuration(port, 32, "return 200 'ok';");
    let text = text.replace("worker_rlimit_nofile 32;", line);
    service.folder.write("nginx.conf", &text)?;
    let pid = i32::try_from(service.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or("no pid")?, Signal::HUP).map_err(|error| error.to_string())?;
    let wanted = line.trim_end_matches(';').rsplit(' ').next();
    let children = format!("/proc/{0}/task/{0}/children", service.pid());
    let has = |worker: &str| {
        let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap_or_default();
        let mut lines = limits.lines();
        let line = lines.find(|line| line.starts_with("Max open files"));
        line.is_some_and(|line| line.split_whitespace().nth(3) == wanted)
    };
    service.wait_until(|_| {
        let workers = fs::read_to_string(&children).unwrap_or_default();
        workers.split_whitespace().any(has)
    })
}

/// Clients wait for a slow server behind it: two fds each, and all of them load. What is typed lets the rest in.
pub(super) fn proxy(setting: &Setting) -> Result<(), String> {
    const CLIENTS: usize = 60;
    let behind = Behind::start()?;
    let tracer = Tracer::start(&setting.backend, &["-n", "nginx"])?;
    let location = format!("proxy_pass http://127.0.0.1:{};", behind.port);
    let (service, port) = start("nginx-proxy", 64, &location)?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port))?;
            client.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            Ok(client)
        })
        .collect::<std::io::Result<_>>()
        .map_err(|error| format!("a client: {error}"))?;
    let object = tracer.wait_for(|object| {
        object["type"] == "exhausted" && object["verdict"]["kind"] == "saturation"
    })?;
    let evidence = object["verdict"]["evidence"].to_string();
    let is_right = object["comm"] == "nginx"
        && object["pid"] != service.pid()
        && object["limit"]["soft"] == 64
        && evidence.contains("connections made for them");
    ensure(is_right, || format!("{object:#}"))?;
    // Its workers' limit is a hard one.
    if !may_raise_hard_limits() {
        println!(
            "not typed: {}: this root may not raise hard limits",
            object["remedy"]
        );
        return tracer.stop().map(drop);
    }
    type_now(&object)?;
    for served in 0..CLIENTS {
        let arrived = behind.arrived.recv_timeout(PATIENCE);
        arrived.map_err(|_| format!("only {served} of {CLIENTS} were let in"))?;
    }
    drop(clients);
    tracer.stop().map(drop)
}

/// A server that takes connections, says so, and never answers.
struct Behind {
    port: u16,
    arrived: Receiver<()>,
}

impl Behind {
    fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (arrive, arrived) = channel();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for connection in listener.incoming().flatten() {
                kept.push(connection);
                if arrive.send(()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            port: address.port(),
            arrived,
        })
    }
}

/// nginx on a free port of loopback.
fn start(name: &str, limit: u32, location: &str) -> Result<(Service, u16), String> {
    let (folder, port) = (Folder::new(name)?, free_port()?);
    let configuration = folder.write("nginx.conf", &configuration(port, limit, location))?;
    let configuration = configuration.display().to_string();
    let prefix = folder.0.display().to_string();
    let program = ["/usr/sbin/nginx", "-p", &prefix, "-c", &configuration];
    let mut service = Service::start(folder, "-Sn 1024", &program)?;
    let is_proxy = location.starts_with("proxy_pass");
    service.wait_until(|_| answers(port, is_proxy))?;
    Ok((service, port))
}

/// One that is a proxy does not answer, but takes the connection.
fn answers(port: u16, is_proxy: bool) -> bool {
    let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        if is_proxy {
            return Ok(1);
        }
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read(&mut [0; 16])
    });
    answer.is_ok_and(|length| length > 0)
}

fn configuration(port: u16, limit: u32, location: &str) -> String {
    format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile {limit};\n\
         pid nginx.pid;\nerror_log error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n client_body_temp_path body;\n proxy_temp_path proxy;\n \
         fastcgi_temp_path fastcgi;\n uwsgi_temp_path uwsgi;\n scgi_temp_path scgi;\n \
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}\n}}\n"
    )
}
