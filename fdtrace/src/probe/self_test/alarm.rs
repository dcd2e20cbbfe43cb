//! fdtrace runs out of fds itself and must see it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::{MapData, RingBuf};
use fdtrace_common::alarm::{HOOK_ALLOC_FD, HOOK_SYS_EXIT};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::{
    diagnose::call,
    probe::backend::Backend,
    stream::{decode::Alarm, ring::drain},
};

/// Records are there when the failing call returns; this is for a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fails a dup for want of a number, and looks for its record.
///
/// With a soft limit of 0 no number is free, whatever is open. It is raised again before anything
/// else is done; no other thread is running yet.
pub(in crate::probe) fn run(ring: &mut RingBuf<MapData>, backend: Backend) -> Result<()> {
    drain(ring, |_| {});
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, none).context("lowering the own fd limit for the self-test")?;
    let dup = rustix::io::dup(std::io::stdin());
    setrlimit(Resource::Nofile, before).context("restoring the own fd limit")?;
    if dup.map(drop) != Err(Errno::MFILE) {
        bail!(
            "the self-test could not run out of fds: stdin is closed, or a limit of 0 is ignored"
        );
    }
    expect(ring, backend)
}

fn expect(ring: &mut RingBuf<MapData>, backend: Backend) -> Result<()> {
    let wanted = if backend == Backend::Census {
        HOOK_SYS_EXIT
    } else {
        HOOK_ALLOC_FD
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut seen = None;
        drain(ring, |bytes| {
            if let Ok(alarm) = Alarm::decode(bytes)
                && alarm.key.hook == wanted
            {
                seen = Some(alarm);
            }
        });
        if let Some(alarm) = seen {
            return check(&alarm);
        }
        if Instant::now() > deadline {
            bail!("its self-test failed: an EMFILE of fdtrace's own was not seen");
        }
        std::thread::yield_now();
    }
}

/// Is what the record says what has happened?
fn check(alarm: &Alarm) -> Result<()> {
    let call = call::name(alarm.key.call);
    let pid = alarm.key.tgid;
    if call != "dup" || pid != std::process::id() || alarm.soft != 0 || alarm.used.unwrap_or(0) == 0
    {
        bail!(
            "its self-test failed: a dup of process {} at a limit of 0 was seen as {call} of \
             process {pid} at {}, {:?} used",
            std::process::id(),
            alarm.soft,
            alarm.used,
        );
    }
    Ok(())
}
