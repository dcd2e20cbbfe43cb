//! The errno of exhausted descriptors, for want of something else.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Scenario,
    system_wide::{NOBODY, until_error},
};
use crate::{
    keeper::{Keeper, setting},
    report::{Facts, Skip, offered},
    run::{Run, must_fail},
    sys::{fds, fuse, limits, process, ring::Ring},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "inotify_instances",
        "beyond fs.inotify.max_user_instances",
        inotify,
    )
    .at(1024),
    Scenario::new(
        "fanotify_groups",
        "beyond a user's fanotify groups",
        fanotify,
    )
    .at(1024),
    Scenario::new("mq_open", "beyond RLIMIT_MSGQUEUE", mq_open),
    Scenario::new(
        "pipe_pages",
        "beyond fs.pipe-user-pages-hard, as nobody: ENFILE",
        pipe_pages,
    )
    .at(256),
    Scenario::new(
        "io_uring_files",
        "registers more files than the limit",
        io_uring_files,
    ),
    Scenario::new(
        "fuse_open",
        "the server of a FUSE file system is out of fds",
        |run| file_server(run, c"/tmp/file", libc::O_RDONLY),
    ),
    Scenario::new("fuse_open_directory", "the same for a directory", |run| {
        file_server(run, MOUNTED, libc::O_DIRECTORY)
    }),
    Scenario::new("fuse_open_new", "the same for a file to be made", |run| {
        file_server(run, c"/tmp/new", libc::O_CREAT | libc::O_WRONLY)
    }),
];

/// As nobody, who has no instances that somebody might miss.
fn inotify(run: &mut Run) -> Result<Facts> {
    let instances = setting("inotify/max_user_instances")?;
    enough_room(run, instances)?;
    match limits::become_user(NOBODY) {
        // Without root it is the caller's own instances that run out.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        other => other.context("cannot become nobody")?,
    }
    let mut facts = one_too_many(run, "inotify_init1", fds::inotify_init1)?;
    facts.note = Some(format!("fs.inotify.max_user_instances {instances}"));
    Ok(facts)
}

/// Kernels before 5.13 have a constant, 128, in place of the setting.
fn fanotify(run: &mut Run) -> Result<Facts> {
    let groups = setting("fanotify/max_user_groups").unwrap_or(128);
    enough_room(run, groups)?;
    let mut facts = one_too_many(run, "fanotify_init", fds::fanotify_init)?;
    facts.note = Some(format!("fs.fanotify.max_user_groups {groups}"));
    Ok(facts)
}

/// The limit on descriptors must not be what stops it.
fn enough_room(run: &Run, wanted: u64) -> Result<()> {
    if wanted + 8 > run.soft {
        bail!(Skip(format!(
            "{wanted} are allowed, which needs a larger --limit"
        )));
    }
    Ok(())
}

/// Makes instances until the kernel says that it is enough, before the table is full.
fn one_too_many(run: &mut Run, call: &str, make: fn() -> io::Result<OwnedFd>) -> Result<Facts> {
    run.held.push(offered(call, make())?);
    run.gate()?;
    let result = until_error(run, make);
    must_fail(call, result, libc::EMFILE)?;
    let facts = run.facts(call, 1, Some(libc::EMFILE))?;
    ensure!(facts.used < run.soft, "the table was full first");
    Ok(facts)
}

/// The default queue takes more bytes than are allowed here.
fn mq_open(run: &mut Run) -> Result<Facts> {
    const BYTES: u64 = 1024;
    let name = CString::new(format!("gym-{}", std::process::id()))?;
    drop(offered("mq_open", fds::mq_open(&name))?);
    fds::mq_unlink(&name).context("mq_unlink")?;
    limits::set_msgqueue(BYTES).context("RLIMIT_MSGQUEUE")?;
    run.gate()?;
    must_fail("mq_open", fds::mq_open(&name), libc::EMFILE)?;
    let mut facts = run.facts("mq_open", 1, Some(libc::EMFILE))?;
    facts.note = Some(format!("RLIMIT_MSGQUEUE {BYTES}"));
    Ok(facts)
}

/// The pipes that use up the pages are there before the setting is lowered to what they use.
fn pipe_pages(run: &mut Run) -> Result<Facts> {
    const PIPES: u64 = 64;
    const PAGES: u64 = PIPES * 16;
    let mut keeper = Keeper::of("pipe-user-pages-hard")?;
    limits::become_user(NOBODY).context("cannot become nobody")?;
    for _ in 0..PIPES {
        let (reading, writing) = fds::pipe2().context("pipe2")?;
        run.held.extend([reading, writing]);
    }
    run.gate()?;
    keeper.set(PAGES)?;
    let result = fds::pipe2();
    keeper.restore()?;
    must_fail("pipe2", result, libc::ENFILE)?;
    let mut facts = run.facts("pipe2", 1, Some(libc::ENFILE))?;
    ensure!(facts.used < run.soft - 2, "the table was full first");
    facts.children = vec![keeper.pid];
    facts.note = Some(format!("fs.pipe-user-pages-hard {PAGES}"));
    Ok(facts)
}

/// The places of the registered table are no descriptors, but `RLIMIT_NOFILE` bounds them as well.
fn io_uring_files(run: &mut Run) -> Result<Facts> {
    let ring = offered("io_uring_setup", Ring::new())?;
    let places = usize::try_from(run.soft)? + 1;
    run.gate()?;
    let result = ring.register_empty_files(places);
    if result.is_ok() {
        bail!(Skip(
            "this kernel does not compare registered files with the limit".to_owned()
        ));
    }
    must_fail("io_uring_register", result, libc::EMFILE)?;
    let mut facts = run.facts("io_uring_register", 1, Some(libc::EMFILE))?;
    facts.note = Some(format!("{places} files"));
    Ok(facts)
}

/// Where the FUSE file system is mounted, for nobody but this process and the server.
const MOUNTED: &CStr = c"/tmp";

/// The server's errno is the one that open returns.
///
/// The server is a process of its own, with the only descriptor of the file system: should either
/// side be killed, the other one is not left waiting.
fn file_server(run: &mut Run, path: &CStr, flags: i32) -> Result<Facts> {
    const DEVICE: &str = "/dev/fuse";
    let mut device = offered(DEVICE, File::options().read(true).write(true).open(DEVICE))?;
    offered("mounts of its own", fuse::unshare_mounts())?;
    offered("mounting FUSE", fuse::mount(&device, MOUNTED))?;
    run.gate()?;
    let server = process::fork_into(|| {
        let served = process::die_with_parent().and_then(|()| fuse::serve(&mut device));
        i32::from(served.is_err())
    })
    .context("fork")?;
    drop(device);
    let result = fds::openat_path(path, flags);
    fuse::unmount(MOUNTED).context("umount2")?;
    must_fail("openat", result, libc::EMFILE)?;
    let mut facts = run.facts("openat", 1, Some(libc::EMFILE))?;
    ensure!(facts.used < run.soft, "the table was full first");
    let status = process::wait_for(server).context("waiting for the server")?;
    ensure!(status == Some(0), "the server did not end well");
    facts.children = vec![server];
    Ok(facts)
}
