//! Real interpreters that leak as people's programs do, on the host: files and connections in Python,
//! sockets in Node.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use libtest_mimic::Trial;

use super::{Setting, ensure, gym::Gym, programs::clean, tracer::Tracer, trial, verdicts};

/// What all of them lose a file to.
const FILE: &str = "/etc/hostname";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if setting.is_guest {
        // A guest has busybox and nothing else.
        return Vec::new();
    }
    let name = "interpreters::that_leak";
    for program in ["python3", "node"] {
        let version = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !version.is_ok_and(|status| status.success()) {
            println!("skipped: {name}: there is no {program} here");
            return Vec::new();
        }
    }
    let setting = setting.clone();
    vec![trial(name, move || that_leak(&setting))]
}

fn that_leak(setting: &Setting) -> Result<(), String> {
    let watch = Tracer::start(&setting.backend, &["--warn-at", verdicts::mark(setting)])?;
    let address = server()?.to_string();
    let programs = [
        ("python3", "file.py", FILE),
        ("python3", "connection.py", &*address),
        ("node", "sockets.js", &*address),
    ];
    let mut services = Vec::new();
    for (program, script, argument) in programs {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/interpreters");
        let mut command = clean("sh");
        // The hard limit as well: Node raises the soft one to it.
        command.args(["-c", "ulimit -n 200; exec \"$@\"", "sh", program]);
        command.arg(folder.join(script)).arg(argument);
        services.push((script, Gym::start_waiting(command)?.0));
    }
    for (_, service) in &mut services {
        service.release()?;
    }
    let mut facts = Vec::new();
    for (script, service) in &mut services {
        let told = service.held();
        facts.push((*script, told.map_err(|wrong| format!("{script}: {wrong}"))?));
    }
    for (script, facts) in &facts {
        verdicts::until_all_is_told(&watch, script, facts)?;
    }
    for (_, service) in services {
        service.end()?;
    }
    let ended = watch.stop()?;
    let checks = facts.iter().flat_map(|(script, facts)| {
        let checks = [
            verdicts::is_a_leak(&ended.objects, facts),
            verdicts::holds_the_true_target(&ended.objects, facts),
        ];
        checks.map(|check| check.map_err(|wrong| format!("{script}: {wrong}")))
    });
    let wrong: Vec<_> = checks.filter_map(Result::err).collect();
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// Answers whoever asks, and keeps the connections of those that do not; it ends with the test's process.
fn server() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(client));
        }
    });
    Ok(address)
}

fn answer(mut client: TcpStream) {
    let asked = client.read(&mut [0; 1_024]);
    if asked.is_ok_and(|length| length > 0) {
        // A client that has gone needs no answer.
        let _ = client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}
