//! One operation again and again, timed: what `cargo xtask bench` compares with and without a tracer.

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    report::Facts,
    run::Run,
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("cost_getppid", "times getppid, --count times", getppid),
    Scenario::new(
        "cost_open_close",
        "times openat and close, --count times",
        open_close,
    ),
    Scenario::new(
        "cost_dup_close",
        "times dup and close, --count times",
        dup_close,
    ),
    Scenario::new("cost_emfile", "times dup that fails, --count times", emfile),
    Scenario::new(
        "cost_fork_exit",
        "times fork and exit with a full table, --count times",
        fork_exit,
    )
    .at(10_000),
    Scenario::new(
        "cost_accept",
        "times accept and close of --count connections",
        accept,
    ),
    Scenario::new(
        "hold_mixed",
        "opens --count files, pipes and sockets, stays; the files are made in the current folder",
        hold_mixed,
    )
    .staying(),
];

/// Operations unless `--count` says otherwise.
const COUNT: u64 = 10_000;
/// Operations that are not timed: caches and predictors, and the kernel's own, have seen it all then.
const WARM_UP: u64 = 100;
/// Processes that connect, more than there are processors.
const CLIENTS: usize = 4;
/// Addresses that clients connect to in turn, so that no pair of ports is used twice in a minute.
const ADDRESSES: u32 = 200;

/// Repeats the operation, and tells what it took.
fn timed(
    run: &mut Run,
    call: &str,
    mut operation: impl FnMut() -> io::Result<()>,
) -> Result<Facts> {
    let count = run.options.count.unwrap_or(COUNT);
    for _ in 0..count.min(WARM_UP) {
        operation().context("while warming up")?;
    }
    run.gate()?;
    let start = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    let elapsed = start.elapsed();
    let mut facts = run.facts(call, 0, None)?;
    facts.ns = Some(u64::try_from(elapsed.as_nanos())?);
    facts.operations = Some(count);
    Ok(facts)
}

fn getppid(run: &mut Run) -> Result<Facts> {
    timed(run, "getppid", || {
        process::getppid();
        Ok(())
    })
}

fn open_close(run: &mut Run) -> Result<Facts> {
    timed(run, "openat", || fds::openat().map(drop))
}

fn dup_close(run: &mut Run) -> Result<Facts> {
    timed(run, "dup", || fds::dup().map(drop))
}

fn emfile(run: &mut Run) -> Result<Facts> {
    run.fill_but(0)?;
    timed(run, "dup", || {
        if fds::dup_fails_with(libc::EMFILE) {
            return Ok(());
        }
        Err(io::Error::other("dup did not fail with EMFILE"))
    })
}

/// The child ends at once, and with it everything that fork has copied.
fn fork_exit(run: &mut Run) -> Result<Facts> {
    run.fill_but(0)?;
    timed(run, "fork", || {
        let child = process::fork_into(|| 0)?;
        process::wait_for(child).map(drop)
    })
}

/// Several processes connect as fast as they can; this one accepts and closes.
fn accept(run: &mut Run) -> Result<Facts> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listening")?;
    let port = listener.local_addr()?.port();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = process::fork_into(|| {
            let outcome = process::die_with_parent().and_then(|()| connect_for_ever(port));
            i32::from(outcome.is_err())
        });
        clients.push(client.context("fork")?);
    }
    let facts = timed(run, "accept4", || listener.accept().map(drop));
    for client in clients {
        process::kill(client).context("kill")?;
        process::wait_for(client).context("waitpid")?;
    }
    facts
}

/// A connection that fails is one less: the load goes on for as long as there is a server.
fn connect_for_ever(port: u16) -> io::Result<()> {
    for address in (1..=ADDRESSES).cycle() {
        let address = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + address);
        let connected = TcpStream::connect((address, port));
        // The end comes when the server has closed.
        let closed = connected.and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
        if let Err(error) = closed
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return Err(error);
        }
    }
    Ok(())
}

/// For whoever lists what is open: half of it files that differ, the rest pipes, sockets, eventfds.
fn hold_mixed(run: &mut Run) -> Result<Facts> {
    let count = run.options.count.unwrap_or(32);
    let used = run.used()?.saturating_add(count);
    // Pipes and pairs come in twos.
    ensure!(
        used < run.soft,
        "{count} descriptors need --limit {}",
        used + 1
    );
    run.gate()?;
    let mut made = 0;
    while made < count {
        let new: Vec<OwnedFd> = match made % 10 {
            0..5 => {
                let name = format!("held-{}-{made}\0", process::id());
                let name = std::ffi::CStr::from_bytes_with_nul(name.as_bytes())?;
                let flags = libc::O_RDWR | libc::O_CREAT;
                vec![fds::openat_path(name, flags).context("making a file")?]
            }
            5 | 6 => fds::pipe2()
                .context("pipe2")
                .map(|(one, other)| vec![one, other])?,
            7 | 8 => fds::socketpair()
                .context("socketpair")
                .map(|(one, other)| vec![one, other])?,
            _ => vec![fds::eventfd2().context("eventfd2")?],
        };
        made += new.len() as u64;
        run.held.extend(new);
    }
    run.facts("openat", 0, None)
}
