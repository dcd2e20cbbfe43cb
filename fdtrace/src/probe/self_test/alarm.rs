//! A child of fdtrace runs out of fds, and fdtrace must see it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use fdtrace_common::{
    alarm::{HOOK_ALLOC_FD, HOOK_SYS_EXIT},
    self_test::MARK,
};
use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, WaitOptions, setrlimit, waitpid},
};

use crate::{
    ground::call,
    probe::{backend::Backend, maps, shared::Shared},
    stream::{decode::Alarm, ring::drain},
};

/// Records are there when the failing call returns; this is for a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fails a dup for want of a free fd, and looks for its record.
///
/// A child does it, for the child's limit of 0 is nobody else's: a process cannot put its own limits back where its hard
/// limit lies above `fs.nr_open` (`do_prlimit` in kernel/sys.c). The call is marked, so that it is an alarm to this
/// fdtrace and to no other one ([`fdtrace_common::self_test`]).
pub(in crate::probe) fn run(ring: &mut RingBuf<MapData>, backend: Backend) -> Result<()> {
    drain(ring, |_| {});
    let child = fail_in_child().context("running out of fds for the self-test")?;
    expect(ring, backend, child)
}

/// Has each of the child's failures been counted, once, and nothing else of fdtrace's own?
pub(in crate::probe) fn counted_once(ebpf: &Ebpf, shared: &Shared) -> Result<()> {
    let seen = maps::all_storms(ebpf)? + shared.all_repeats();
    if seen != FAILURES {
        bail!("its self-test failed: of {FAILURES} failures {seen} were counted");
    }
    Ok(())
}

/// A child that has failed a dup with EMFILE, and has ended.
#[expect(unsafe_code, reason = "a child that makes two calls and ends")]
fn fail_in_child() -> Result<u32> {
    // Where fs.nr_open is lower, that would be a failure.
    let setting = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let nr_open = setting.ok().and_then(|text| text.trim().parse().ok());
    let may_grow = nr_open.is_some_and(|most: i32| most >= 2 * FAR);
    // SAFETY: the child makes system calls only, until it ends: it takes no lock that another thread may have held.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let errno = fail(may_grow);
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(errno) };
    }
    if pid < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let (_, status) = loop {
        match waitpid(Pid::from_raw(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            outcome => break outcome?.context("no child has ended")?,
        }
    };
    match status.exit_status() {
        Some(errno) if errno == Errno::MFILE.raw_os_error() => Ok(pid.unsigned_abs()),
        Some(0) => bail!("a limit of 0 is ignored"),
        Some(errno) => Err(Errno::from_raw_os_error(errno).into()),
        None => bail!("the child was killed"),
    }
}

/// A number for which the child's table has to grow.
const FAR: i32 = 512;
/// Failures that the child makes, all of one kind.
const FAILURES: u64 = 3;

/// Marked dups at a limit of 0, behind calls that do not fail; their errno, 0 where one has not failed.
#[expect(
    unsafe_code,
    reason = "dup with the mark in registers that it does not read"
)]
fn fail(may_grow: bool) -> i32 {
    // What sits on a failing branch is not to run for these: for a number, for one that the table has to grow for, and
    // for a file.
    // SAFETY: an fd of a process that ends soon.
    unsafe { libc::dup(0) };
    if may_grow {
        // SAFETY: as above; no fd where the limit is lower.
        unsafe { libc::fcntl(0, libc::F_DUPFD, FAR) };
    }
    // SAFETY: as above.
    unsafe { libc::eventfd(0, 0) };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Nofile, none) {
        return error.raw_os_error();
    }
    let [first, second] = MARK.map(|word| usize::try_from(word).unwrap_or_default());
    let mut errno = 0;
    for _ in 0..FAILURES {
        // SAFETY: a copy of an fd, or an error, and the process ends behind it.
        let dup = unsafe { syscalls::syscall!(syscalls::Sysno::dup, 0, first, second) };
        errno = dup.err().map_or(0, syscalls::Errno::into_raw);
        if errno != Errno::MFILE.raw_os_error() {
            break;
        }
    }
    errno
}

fn expect(ring: &mut RingBuf<MapData>, backend: Backend, child: u32) -> Result<()> {
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
            return check(&alarm, child);
        }
        if Instant::now() > deadline {
            bail!("its self-test failed: an EMFILE of its own child was not seen");
        }
        std::thread::yield_now();
    }
}

/// Is what the record says what has happened?
fn check(alarm: &Alarm, child: u32) -> Result<()> {
    let call = call::name(alarm.key.call);
    let pid = alarm.key.tgid;
    if call != "dup" || pid != child || alarm.soft != 0 || alarm.used.unwrap_or(0) == 0 {
        bail!(
            "its self-test failed: a dup of process {} at a limit of 0 was seen as {call} of \
             process {pid} at {}, {:?} used",
            child,
            alarm.soft,
            alarm.used,
        );
    }
    Ok(())
}
