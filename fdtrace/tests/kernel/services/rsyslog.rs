//! rsyslog with a file for each program: rotated by deleting them, it writes on into files without a name.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Folder, Service, ensure, free_port, judged};
use crate::{Setting, tracer::Tracer};

/// Where the files are, and that they are deleted.
pub(super) fn deleted_files(setting: &Setting) -> Result<(), String> {
    let (folder, port) = (Folder::new("rsyslog")?, free_port()?);
    let logs = folder.0.join("logs");
    fs::create_dir(&logs).map_err(|error| error.to_string())?;
    let text = format!(
        "module(load=\"imudp\")\ninput(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         template(name=\"each\" type=\"string\" string=\"{}/%programname%.log\")\n\
         action(type=\"omfile\" dynaFile=\"each\" dynaFileCacheSize=\"1000\")\n",
        logs.display()
    );
    let configuration = folder.write("rsyslog.conf", &text)?.display().to_string();
    let pid_file = folder.0.join("pid").display().to_string();
    let program = [
        "/usr/sbin/rsyslogd",
        "-n",
        "-f",
        &configuration,
        "-i",
        &pid_file,
    ];
    let tracer = Tracer::start(&setting.backend, &["-n", "rsyslogd"])?;
    let mut service = Service::start(folder, "-Sn 100", &program)?;
    service.wait_until(|folder| folder.join("pid").exists())?;
    let is_over = AtomicBool::new(false);
    let object = thread::scope(|scope| {
        let sender = scope.spawn(|| send(port, &logs, &is_over));
        let object = judged(&tracer, service.pid(), "leak");
        is_over.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .map_err(|_| "the sender panicked".to_owned())?;
        sent.and(object)
    })?;
    tracer.stop()?;
    let most = &object["holders"][0];
    let folder = &most["folders"][0];
    let is_right = most["kind"] == "file"
        && most["count"].as_u64().is_some_and(|count| count > 80)
        && folder["path"] == logs.display().to_string()
        && folder["pattern"] == "*.log"
        && folder["deleted"]
            .as_u64()
            .is_some_and(|deleted| deleted > 70);
    ensure(is_right, || format!("{object:#}"))?;
    let advice = object["remedy"].to_string();
    ensure(advice.contains("has to have it open them anew"), || advice)
}

/// A message of another program each time, twenty a second; of ten in a row, the files are deleted.
fn send(port: u16, logs: &std::path::Path, is_over: &AtomicBool) -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let message = format!("<13>Nov 22 08:15:30 host app{number}: hello");
        let sent = socket.send_to(message.as_bytes(), ("127.0.0.1", port));
        sent.map_err(|error| format!("sending: {error}"))?;
        if number % 10 == 9 {
            let entries = fs::read_dir(logs).map_err(|error| error.to_string())?;
            for entry in entries.flatten() {
                let _ = fs::remove_file(entry.path());
            }
        }
        // The pace of the load; nothing is waited for.
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
