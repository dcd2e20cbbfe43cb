//! The other side of connections: a process on the loopback address that ends with the service.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    run::Run,
    sys::{fds, limits, process},
};

/// What a server does with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Answers and closes.
    Closes,
    /// Waits until the client closes.
    Waits,
}

/// A listener on a free port of the loopback address.
pub(super) fn listener() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    let address = listener.local_addr().context("getsockname")?;
    Ok((listener, address))
}

/// Starts a server; where it listens. It ends with the service, which has one fd for that.
pub(super) fn start(run: &mut Run, manner: Manner) -> Result<SocketAddr> {
    let (listener, address) = listener()?;
    beside(run, |end| serve(&listener, end, manner))?;
    Ok(address)
}

/// Forks a process that has room for as many fds as are allowed, and works until the end that it is given
/// can be read.
pub(super) fn beside(run: &mut Run, work: impl FnOnce(BorrowedFd) -> io::Result<()>) -> Result<()> {
    let (end, ends) = fds::pipe2().context("pipe2")?;
    let mut ends = Some(ends);
    let child = process::fork_into(|| {
        drop(ends.take());
        let done = process::die_with_parent()
            .and_then(|()| limits::nofile())
            .and_then(|(_, hard)| limits::set_nofile(hard.min(4_096)))
            .and_then(|()| limits::set_comm(b"other-side"))
            .and_then(|()| work(end.as_fd()));
        i32::from(done.is_err())
    })
    .context("fork")?;
    run.held.extend(ends.take());
    run.offspring.push(child);
    Ok(())
}

fn serve(listener: &TcpListener, end: BorrowedFd, manner: Manner) -> io::Result<()> {
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        let mut watched = vec![end, listener.as_fd()];
        watched.extend(clients.iter().map(|client| client.as_fd()));
        let ready = process::poll(&watched, -1)?;
        if ready[0] {
            return Ok(());
        }
        let mut states = ready[2..].iter();
        // Clients say nothing: whoever can be read has closed.
        clients.retain(|_| states.next() == Some(&false));
        if ready[1] {
            let (mut client, _) = listener.accept()?;
            match manner {
                Manner::Closes => client.write_all(b"HTTP/1.0 204 No Content\r\n\r\n")?,
                Manner::Waits => clients.push(client),
            }
        }
    }
}

/// Clients that come one by one, say something and go.
pub(super) fn clients(
    address: SocketAddr,
    count: u64,
    every: Duration,
    end: BorrowedFd,
) -> io::Result<()> {
    let every = i32::try_from(every.as_millis()).map_err(io::Error::other)?;
    for _ in 0..count {
        TcpStream::connect(address)?.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        if process::readable(end, every)? {
            return Ok(());
        }
    }
    until_end(end)
}

fn until_end(end: BorrowedFd) -> io::Result<()> {
    File::from(end.try_clone_to_owned()?)
        .read_to_end(&mut Vec::new())
        .map(drop)
}

/// A connection that has been opened.
pub(super) fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    TcpStream::connect(address).map(OwnedFd::from)
}
