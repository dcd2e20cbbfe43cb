//! Leaks of people's programs: by connections, event loops, pipes, databases and children, as real packages open them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use serde_json::Value;

use super::PYTHON;
use crate::{
    Setting, ensure,
    languages::scripts,
    script::{Script, is_new, stack, trace},
};

/// Which of them have to be there; `requests` is in no guest.
const WHAT: [&str; 9] = [
    "child",
    "connection",
    "context",
    "database",
    "loops",
    "pipe",
    "stream",
    "unnamed",
    "worker",
];

/// What calls that return no fd open has no stack where there are no hooks: pipes, and pairs of sockets.
const WITHOUT_HOOKS: [&str; 2] = ["child", "pipe"];

/// Each fd that a function has lost is told with the line of that function.
pub(super) fn leaks(setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(PYTHON);
    let address = server()?.to_string();
    command.arg(scripts(setting).join("leaky.py")).arg(address);
    let mut script = Script::start(command)?;
    let tracer = trace(setting, script.id())?;
    script.release()?;
    let told: Vec<(String, Vec<u64>, u64)> =
        serde_json::from_str(&script.line()?).map_err(|error| error.to_string())?;
    let what: Vec<_> = told.iter().map(|(what, ..)| what.as_str()).collect();
    ensure(WHAT.iter().all(|it| what.contains(it)), || {
        format!("{what:?}")
    })?;
    let last = told.last().and_then(|(_, fds, _)| fds.last().copied());
    tracer.wait_for(|object| is_new(object) && object["fd"].as_u64() == last)?;
    script.end()?;
    let ended = tracer.stop()?;
    let opens = ended.objects.iter().filter(|object| is_new(object));
    let by_fd: BTreeMap<u64, &Value> = opens
        .filter_map(|event| Some((event["fd"].as_u64()?, event)))
        .collect();
    let mut wrong = Vec::new();
    for (what, fds, line) in &told {
        ensure(fds.len() >= 3, || format!("{what}: {fds:?}"))?;
        let place = format!("leaky.py:{line})");
        let stacks = fds.iter().filter_map(|fd| Some(stack(by_fd.get(fd)?)));
        let stacks: Vec<_> = stacks.filter(|stack| !stack.is_empty()).collect();
        let is_right = |stack: &&Vec<&str>| {
            let own = stack.iter().find(|frame| frame.contains("leaky.py:"));
            own.is_some_and(|own| own.ends_with(&place))
        };
        let right = stacks.iter().filter(is_right).count();
        let is_seen = setting.sees_inside_calls() || !WITHOUT_HOOKS.contains(&what.as_str());
        let needed = if setting.sees_inside_calls() {
            fds.len()
        } else {
            usize::from(is_seen) * 3
        };
        if right < needed || right < stacks.len() {
            wrong.push(format!("{what} ({place}: {right} of {fds:?}: {stacks:#?}"));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// Answers each request, and keeps the connection; it ends with the test's process.
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
    while client.read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if client.write_all(answer).is_err() {
            return;
        }
    }
}
