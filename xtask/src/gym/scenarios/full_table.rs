//! The table is full, or has one number left where two are needed; one call fails.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use anyhow::{Context as _, Result};
use fdtrace_common::self_test::MARK;

use super::Scenario;
use crate::{
    report::{Facts, offered},
    run::Run,
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("openat", "opens /dev/null once too often", |run| {
        same(run, "openat", fds::openat)
    }),
    Scenario::new("socket", "makes one socket too many", |run| {
        same(run, "socket", fds::socket)
    }),
    Scenario::new("accept4", "cannot accept a waiting connection", accept4),
    Scenario::new("pipe2", "needs two numbers and has one", pipe2),
    Scenario::new("socketpair", "needs two numbers and has one", socketpair),
    Scenario::new("dup", "copies standard input once too often", |run| {
        same(run, "dup", fds::dup)
    }),
    Scenario::new(
        "dup_marked",
        "the same, as fdtrace's self-test does it",
        |run| same(run, "dup", || fds::dup_with(MARK)),
    ),
    Scenario::new(
        "f_dupfd",
        "F_DUPFD with a minimum that leaves few numbers",
        f_dupfd,
    ),
    Scenario::new("epoll_create1", "makes one epoll too many", |run| {
        same(run, "epoll_create1", fds::epoll_create1)
    }),
    Scenario::new("memfd_create", "makes one memfd too many", |run| {
        same(run, "memfd_create", fds::memfd_create)
    }),
    Scenario::new("eventfd2", "makes one eventfd too many", |run| {
        same(run, "eventfd2", fds::eventfd2)
    }),
    Scenario::new("timerfd_create", "makes one timerfd too many", |run| {
        same(run, "timerfd_create", fds::timerfd_create)
    }),
    Scenario::new("signalfd4", "makes one signalfd too many", |run| {
        same(run, "signalfd4", fds::signalfd4)
    }),
    Scenario::new(
        "inotify_at_limit",
        "inotify_init1 for want of a number, not of instances",
        |run| at_limit(run, "inotify_init1", fds::inotify_init1),
    ),
    Scenario::new("pidfd_open", "makes one pidfd too many", |run| {
        same(run, "pidfd_open", fds::pidfd_open)
    }),
    Scenario::new("clone3_pidfd", "clone3 cannot hand out a pidfd", |run| {
        at_limit(run, "clone3", process::clone3_pidfd)
    }),
];

/// Fills the table with what `make` makes, and makes one more.
fn same(run: &mut Run, call: &str, make: fn() -> io::Result<OwnedFd>) -> Result<Facts> {
    // The first one shows whether the kernel offers the call at all.
    run.held.push(offered(call, make())?);
    run.fill_to(run.soft, make)?;
    run.gate()?;
    run.full(call, make(), run.soft)
}

/// Fills the table with copies, and makes the one call.
fn at_limit<T>(run: &mut Run, call: &str, make: fn() -> io::Result<T>) -> Result<Facts> {
    run.fill_but(0)?;
    run.gate()?;
    run.full(call, make(), run.soft)
}

/// The connection stays in the queue: the number is taken before it is looked at.
fn accept4(run: &mut Run) -> Result<Facts> {
    let listener = listener_with_client(run)?;
    run.fill_but(0)?;
    run.gate()?;
    run.full("accept4", fds::accept4(listener.as_fd()), run.soft)
}

/// A listener in the namespace that needs no file, with a client that waits in its queue.
pub(super) fn listener_with_client(run: &mut Run) -> Result<UnixListener> {
    let name = format!("gym-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).context("an abstract address")?;
    let listener = UnixListener::bind_addr(&address).context("bind")?;
    let client = UnixStream::connect_addr(&address).context("connect")?;
    run.held.push(client.into());
    Ok(listener)
}

/// The number that the first end has got is given back.
fn pipe2(run: &mut Run) -> Result<Facts> {
    run.fill_but(1)?;
    run.gate()?;
    run.full("pipe2", fds::pipe2(), run.soft - 1)
}

/// As with pipes.
fn socketpair(run: &mut Run) -> Result<Facts> {
    run.fill_but(1)?;
    run.gate()?;
    run.full("socketpair", fds::socketpair(), run.soft - 1)
}

/// Four numbers below the limit are all there is, with most of the table empty.
fn f_dupfd(run: &mut Run) -> Result<Facts> {
    const ABOVE: u64 = 4;
    let minimum = i32::try_from(run.soft - ABOVE)?;
    let used = run.used()? + ABOVE;
    run.fill_to(used, || fds::f_dupfd(minimum))?;
    run.gate()?;
    run.full("fcntl", fds::f_dupfd(minimum), used)
}
