//! redis, which works its number of clients out from its limit when it starts.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::{Folder, PATIENCE, Service, ensure, free_port, judged, type_now};
use crate::{Setting, remedy::typed, tracer::Tracer};

/// Its limit has been lowered since; clients are load, and what is typed lets the rest in.
pub(super) fn lowered(setting: &Setting) -> Result<(), String> {
    const CLIENTS: usize = 120;
    let (folder, port) = (Folder::new("redis")?, free_port()?);
    let tracer = Tracer::start(&setting.backend, &["-n", "redis-server"])?;
    let number = port.to_string();
    let program = [
        "/usr/bin/redis-server",
        "--port",
        &number,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ];
    let mut service = Service::start(folder, "-Sn 200", &program)?;
    service.wait_until(|_| client(port).and_then(ping).is_ok())?;
    typed(&format!("prlimit --pid {} --nofile=100:", service.pid()))?;
    let clients = (0..CLIENTS).map(|_| client(port));
    let clients: Vec<_> = clients.collect::<Result<_, _>>()?;
    let object = judged(&tracer, service.pid(), "saturation")?;
    let clients_of = object["holders"][0]["target"].as_str().unwrap_or_default();
    let is_right = object["limit"]["soft"] == 100
        && object["holders"][0]["kind"] == "tcp"
        && clients_of.starts_with("clients of ");
    ensure(is_right, || format!("{object:#}"))?;
    type_now(&object)?;
    for client in clients {
        ping(client)?;
    }
    tracer.stop().map(drop)
}

fn client(port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let timeout = stream.set_read_timeout(Some(PATIENCE));
    timeout.map_err(|error| error.to_string())?;
    Ok(stream)
}

fn ping(mut client: TcpStream) -> Result<(), String> {
    let mut answer = [0; 7];
    let answered = client
        .write_all(b"PING\r\n")
        .and_then(|()| client.read_exact(&mut answer));
    answered.map_err(|error| format!("ping: {error}"))?;
    ensure(&answer == b"+PONG\r\n", || format!("{answer:?}"))
}
