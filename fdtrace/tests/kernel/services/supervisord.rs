//! supervisord, which gives its limit to what it starts: `minfds`.

use std::net::UdpSocket;

use super::{Folder, PATIENCE, Service, ensure, type_now};
use crate::{Setting, limits::why, tracer::Tracer};

/// Loses a file each 20 ms, and says so once it has more than any of its limits before.
const LEAK: &str = "import socket, sys, time\n\
    report, kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), []\n\
    while True:\n\
    \x20   try: kept.append(open('/etc/hostname'))\n\
    \x20   except OSError: pass\n\
    \x20   if len(kept) == 250: report.sendto(b'over', ('127.0.0.1', int(sys.argv[1])))\n\
    \x20   time.sleep(.02)\n";

/// The program leaks, at the limit that supervisord has raised for it; what is typed lets it go on.
pub(super) fn starts_a_leak(setting: &Setting) -> Result<(), String> {
    let report = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = report
        .local_addr()
        .map_err(|error| error.to_string())?
        .port();
    report
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| error.to_string())?;
    let folder = Folder::new("supervisord")?;
    let script = folder.write("leak.py", LEAK)?;
    let text = format!(
        "[supervisord]\nnodaemon=true\nminfds=200\nlogfile=log\npidfile=pid\n\
         [program:leaky]\ncommand=/usr/bin/python3 {} {port}\n",
        script.display()
    );
    let configuration = folder
        .write("supervisord.conf", &text)?
        .display()
        .to_string();
    let tracer = Tracer::start(&setting.backend, &["-n", "python3"])?;
    let program = ["/usr/bin/supervisord", "-c", &configuration];
    let _service = Service::start(folder, "-Sn 100", &program)?;
    let object = tracer
        .wait_for(|object| object["type"] == "exhausted" && object["verdict"]["kind"] == "leak")?;
    let most = &object["holders"][0];
    let is_right = object["limit"]["soft"] == 200
        && most["target"] == "/etc/hostname"
        && most["count"].as_u64().is_some_and(|count| count > 190);
    ensure(is_right, || format!("{object:#}"))?;
    let limit = &object["limit"];
    let is_given = limit["origin"] == "parent"
        && limit["starter"]["comm"] == "supervisord"
        && limit["starter"]["soft"] == 200;
    ensure(is_given, || format!("{object:#}"))?;
    let why = why(&object, "permanent")?;
    ensure(why.contains("`minfds="), || why.clone())?;
    type_now(&object)?;
    let mut over = [0; 4];
    let received = report.recv(&mut over);
    received.map_err(|error| format!("it never had more than its old limit: {error}"))?;
    tracer.stop().map(drop)
}
