//! A Java program that closes none of its connections, although their servers have.

use std::{io::Write, net::TcpListener, path::Path, sync::mpsc::channel, thread};

use super::{Folder, PATIENCE, Service, ensure, judged, type_now};
use crate::{Setting, tracer::Tracer};

/// Its limit. A JVM raises its soft one to its hard one unless it is told not to; the hard one stays, so that there is
/// something to type.
const LIMIT: usize = 100;

/// The connections are a leak of connections that their server has closed; what is typed lets it make more of them.
pub(super) fn close_wait(setting: &Setting) -> Result<(), String> {
    let (port, arrived) = server()?;
    let url = format!("http://127.0.0.1:{port}/");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/services/Leak.java");
    let source = source.display().to_string();
    let tracer = Tracer::start(&setting.backend, &["-n", "java"])?;
    let program = ["/usr/bin/java", "-XX:-MaxFDLimit", &source, &url];
    let limit = format!("-Sn {LIMIT}");
    let service = Service::start(Folder::new("java")?, &limit, &program)?;
    let object = judged(&tracer, service.pid(), "leak")?;
    let most = &object["holders"][0];
    let is_close_wait = most["kind"] == "tcp"
        && most["state"] == "close-wait"
        && most["target"] == format!("127.0.0.1:{port}")
        && most["count"].as_u64().is_some_and(|count| count > 50);
    ensure(is_close_wait, || format!("{object:#}"))?;
    let evidence = object["verdict"]["evidence"].to_string();
    let is_right = evidence.contains("CLOSE_WAIT")
        && object["limit"]["soft"] == LIMIT
        && object["limit"]["origin"] == "self"
        && object["exe"]
            .as_str()
            .is_some_and(|exe| exe.ends_with("/java"));
    ensure(is_right, || format!("{object:#}"))?;
    // A leak is not cured: nothing is said to be for good.
    let remedies = object["remedy"].as_array().ok_or("no remedies")?;
    let lasting = remedies.iter().find(|remedy| remedy["when"] == "permanent");
    ensure(lasting.is_none_or(|it| it["command"].is_null()), || {
        format!("{object:#}")
    })?;
    type_now(&object)?;
    for count in 0..2 * LIMIT {
        let more = arrived.recv_timeout(PATIENCE);
        more.map_err(|_| format!("only {count} connections have come"))?;
    }
    drop(service);
    tracer.stop().map(drop)
}

/// Answers whoever connects, closes, and says so.
fn server() -> Result<(u16, std::sync::mpsc::Receiver<()>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let (arrive, arrived) = channel();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nok");
            drop(client);
            if arrive.send(()).is_err() {
                break;
            }
        }
    });
    Ok((address.port(), arrived))
}
