//! The objects `fd` and `process`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    diagnose::holders::Holder,
    ground::{
        file::OpenFile,
        kind::Kind,
        listing::{Peer, Peers, Usage},
        tcp_state::TcpState,
    },
    report::{
        diagnosis::HolderFields,
        json::{finite, line, text},
    },
};

#[derive(Serialize)]
struct FileFields {
    pid: u32,
    tid: u32,
    comm: String,
    uid: u32,
    cgroup: Option<String>,
    fd: u32,
    kind: Kind,
    target: String,
    mode: &'static str,
    flags: Vec<&'static str>,
    cloexec: bool,
    inode: u64,
    dev: String,
    deleted: bool,
    peer: Option<PeerFields>,
    /// All that have the other end; `None`: there is nobody, or it is on another host.
    peers: Option<Vec<Peer>>,
    peers_total: Option<usize>,
}

/// The other end: whose it is, or its address and the connection's state.
#[derive(Default, Serialize)]
struct PeerFields {
    pid: Option<u32>,
    fd: Option<u32>,
    address: Option<String>,
    state: Option<&'static str>,
}

/// Writes one fd.
pub fn file(
    output: &mut impl Write,
    time: Timestamp,
    file: &OpenFile,
    peers: Peers,
    cgroup: Option<&[u8]>,
) -> io::Result<()> {
    let Peers { named, total } = peers;
    let peer = named.first().copied();
    let has_peer = peer.is_some() || file.remote.is_some() || file.state.is_some();
    let fields = FileFields {
        pid: file.tgid,
        tid: file.tid,
        comm: text(&file.comm),
        uid: file.uid,
        cgroup: cgroup.map(text),
        fd: file.fd,
        kind: file.kind,
        target: text(&file.target),
        mode: file.flags.mode(),
        flags: file.flags.names().collect(),
        cloexec: file.flags.cloexec,
        inode: file.inode,
        dev: format!("{}:{}", file.device.0, file.device.1),
        deleted: file.deleted,
        peer: has_peer.then(|| PeerFields {
            pid: peer.map(|peer| peer.pid),
            fd: peer.map(|peer| peer.fd),
            address: file.remote.map(|remote| remote.to_string()),
            state: file.state.map(TcpState::name),
        }),
        peers: (total > 0).then_some(named),
        peers_total: (total > 0).then_some(total),
    };
    line(output, "fd", time, &fields)
}

#[derive(Serialize)]
struct UsageFields<'a> {
    pid: u32,
    tid: u32,
    comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    used: Option<u32>,
    open: u32,
    limit: Option<u64>,
    percent: Option<u64>,
    kinds: &'a BTreeMap<Kind, u32>,
    holders: Option<Vec<HolderFields>>,
    growth_per_min: Option<f64>,
    seconds_left: Option<f64>,
}

/// Writes one table in numbers, with what fills it where that was asked for. One look knows nothing of growth.
pub fn usage(
    output: &mut impl Write,
    time: Timestamp,
    usage: &Usage,
    holders: Option<&[Holder]>,
    cgroup: Option<&[u8]>,
) -> io::Result<()> {
    let holders = holders.map(|holders| holders.iter().map(HolderFields::of_snapshot).collect());
    let fields = UsageFields {
        pid: usage.pid,
        tid: usage.tid,
        comm: text(&usage.comm),
        uid: usage.uid,
        cgroup: cgroup.map(text),
        used: usage.used,
        open: usage.open,
        limit: finite(usage.soft),
        percent: usage.percent(),
        kinds: &usage.kinds,
        holders,
        growth_per_min: None,
        seconds_left: None,
    };
    line(output, "process", time, &fields)
}
