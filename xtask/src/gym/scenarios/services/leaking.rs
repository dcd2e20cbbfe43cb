//! Services that open and never close: each of the ways that people do it in.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::OwnedFd,
};

use anyhow::Result;

use super::{
    LEAK_EVERY, open, own_program,
    server::{self, Manner},
    until_full,
};
use crate::{
    report::Facts,
    run::Run,
    sys::{fds, process},
};

/// `open` without `close`.
pub(super) fn file(run: &mut Run) -> Result<Facts> {
    let path = own_program()?;
    run.gate()?;
    let target = Some(path.display().to_string());
    until_full(run, "openat", "file", target, || {
        let mut file = File::open(&path)?;
        file.read_exact(&mut [0; 64])?;
        Ok(file.into())
    })
}

/// The answer is read to its end, and the connection kept: in `CLOSE_WAIT`, for as long as the program runs.
pub(super) fn connection(run: &mut Run) -> Result<Facts> {
    let address = server::start(run, Manner::Closes)?;
    run.gate()?;
    until_full(run, "socket", "tcp", Some(address.to_string()), || {
        let mut stream = TcpStream::connect(address)?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(stream.into())
    })
}

/// Five files of a request are closed, the sixth is forgotten.
pub(super) fn early_return(run: &mut Run) -> Result<Facts> {
    let path = own_program()?;
    run.gate()?;
    let target = Some(path.display().to_string());
    until_full(run, "openat", "file", target, || {
        for _ in 0..5 {
            drop(fds::openat()?);
        }
        open(&path)
    })
}

/// Accepts, reads until the client has gone, and forgets to close.
pub(super) fn event_loop(run: &mut Run) -> Result<Facts> {
    let (listener, address) = server::listener()?;
    let count = run.soft;
    run.gate()?;
    server::beside(run, |end| server::clients(address, count, LEAK_EVERY, end))?;
    let target = Some(format!("clients of *:{}", address.port()));
    let facts = until_full(run, "accept4", "tcp", target, || {
        let (mut client, _) = listener.accept()?;
        client.read_to_end(&mut Vec::new())?;
        Ok(client.into())
    });
    run.held.push(OwnedFd::from(listener));
    facts
}

/// The child's end is closed, the other one is forgotten.
pub(super) fn pipe_end(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    until_full(run, "pipe2", "pipe", None, || {
        let (reads, writes) = fds::pipe2()?;
        let mut theirs = Some(writes);
        let child = process::fork_into(|| i32::from(answer(theirs.take()).is_err()))?;
        drop(theirs);
        fds::read_byte(std::os::fd::AsRawFd::as_raw_fd(&reads))?;
        process::wait_for(child)?;
        Ok(reads)
    })
}

fn answer(end: Option<OwnedFd>) -> io::Result<()> {
    end.map_or(Ok(()), |end| File::from(end).write_all(b"x"))
}
