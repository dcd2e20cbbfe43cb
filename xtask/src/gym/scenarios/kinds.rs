//! One fd of every kind that the kernel offers.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::fd::{AsFd as _, IntoRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    report::Facts,
    run::Run,
    sys::{fds, kinds, ring::Ring},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[Scenario::new(
    "kinds",
    "holds one fd of every kind, and tells which is which",
    every_kind,
)
.named()
.staying()
.at(256)];

/// What is open, by number, and what could not be had.
#[derive(Default)]
struct Kinds {
    known: BTreeMap<i32, String>,
    missing: Vec<String>,
}

impl Kinds {
    /// Keeps an fd of this kind, or why there is none.
    fn add(&mut self, kind: &str, made: io::Result<OwnedFd>) {
        match made {
            Ok(fd) => {
                self.known.insert(fd.into_raw_fd(), kind.to_owned());
            }
            Err(error) => self.missing.push(format!("{kind}: {error}")),
        }
    }
}

fn every_kind(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    let mut all = Kinds::default();
    add_files(&mut all)?;
    add_sockets(&mut all);
    add_anonymous(&mut all);
    // Those that every kernel has.
    ensure!(all.known.len() >= 20, "not here: {:?}", all.missing);
    let mut facts = run.still("openat")?;
    facts.note = (!all.missing.is_empty()).then(|| format!("not here: {}", all.missing.join(", ")));
    facts.kinds = all.known;
    Ok(facts)
}

fn add_files(all: &mut Kinds) -> Result<()> {
    let path = |name: &str| {
        let path = std::env::temp_dir().join(format!("gym-{name}-{}", std::process::id()));
        CString::new(path.into_os_string().into_encoded_bytes()).context("a path")
    };
    let (file, fifo, block) = (path("file")?, path("fifo")?, path("block")?);
    let made = fds::openat_path(&file, libc::O_RDWR | libc::O_CREAT);
    all.add("file", made);
    all.add("file", fds::openat_path(&file, libc::O_PATH));
    all.add("dir", fds::openat_path(c"/", libc::O_DIRECTORY));
    all.add("char", fds::openat());
    let (reader, writer) = fds::pipe2().context("pipe2")?;
    all.add("pipe", Ok(reader));
    all.add("pipe", Ok(writer));
    fds::mkfifo(&fifo).context("mkfifo")?;
    all.add("fifo", fds::openat_path(&fifo, libc::O_RDWR));
    let loop_device = kinds::mknod_block(&block, 7, 0);
    // As a place: no driver need be there.
    let opened = loop_device.and_then(|()| fds::openat_path(&block, libc::O_PATH));
    all.add("block", opened);
    for namespace in [c"/proc/self/ns/net", c"/proc/self/ns/mnt"] {
        all.add("ns", fds::openat_path(namespace, libc::O_RDONLY));
    }
    let queue = CString::new(format!("gym-kinds-{}", std::process::id()))?;
    let opened = fds::mq_open(&queue);
    if opened.is_ok() {
        fds::mq_unlink(&queue).context("mq_unlink")?;
    }
    all.add("mqueue", opened);
    for path in [file, fifo, block] {
        let path = path.to_str().context("a path")?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {path}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn add_sockets(all: &mut Kinds) {
    let (stream, datagram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
    let bound = kinds::socket_of(libc::AF_INET, datagram, 0)
        .and_then(|socket| kinds::bind_loopback(socket.as_fd()).map(|()| socket));
    all.add("udp", bound);
    for (kind, family, of, protocol) in [
        ("tcp", libc::AF_INET, stream, 0),
        ("tcp", libc::AF_INET6, stream, 0),
        ("udp", libc::AF_INET6, datagram, 0),
        ("unix", libc::AF_UNIX, stream, 0),
        ("unix", libc::AF_UNIX, datagram, 0),
        ("unix", libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        ("netlink", libc::AF_NETLINK, libc::SOCK_RAW, 0),
        ("packet", libc::AF_PACKET, datagram, 0),
        ("vsock", libc::AF_VSOCK, stream, 0),
        ("socket", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
    ] {
        all.add(kind, kinds::socket_of(family, of, protocol));
    }
}

fn add_anonymous(all: &mut Kinds) {
    all.add("eventfd", fds::eventfd2());
    all.add("epoll", fds::epoll_create1());
    all.add("timerfd", fds::timerfd_create());
    all.add("signalfd", fds::signalfd4());
    all.add("inotify", fds::inotify_init1());
    all.add("fanotify", fds::fanotify_init());
    all.add("pidfd", fds::pidfd_open());
    all.add("memfd", fds::memfd_create());
    all.add("secretmem", kinds::memfd_secret());
    all.add("bpf", kinds::bpf_map());
    all.add("perf", kinds::perf_event());
    all.add("anon", kinds::userfaultfd());
    match Ring::new() {
        // It stays as long as the process does.
        Ok(ring) => {
            let fd = ring.number();
            std::mem::forget(ring);
            all.known.insert(fd, "io_uring".to_owned());
        }
        Err(error) => all.missing.push(format!("io_uring: {error}")),
    }
}
