//! Who it is that runs out: a child, a thread with its own table, a program after exec.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::Command,
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::Scenario;
use crate::{
    report::{Facts, Holder, tell},
    run::{Run, must_fail, until},
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "quick_exit",
        "fails once, after its report, and is gone at once",
        quick_exit,
    ),
    Scenario::new(
        "quick_exit_sockets",
        "the same with a table of connections and files",
        quick_exit_sockets,
    ),
    Scenario::new(
        "fork_child",
        "a child runs out, its parent does not",
        |run| offspring(run, 1),
    ),
    Scenario::new("grandchild", "the child of a child runs out", |run| {
        offspring(run, 2)
    }),
    Scenario::new(
        "threads_of_own_table",
        "a thread runs out of a table of its own",
        own_table,
    ),
    Scenario::new(
        "exec_then_open",
        "becomes another program, which runs out",
        exec_then_open,
    ),
    Scenario::new(
        "leader_exited",
        "its first thread has exited, the others hold --count files, until standard input ends",
        leader_exited,
    ),
    Scenario::new("hold", "opens --count files, fails in nothing, stays", hold).staying(),
];

/// Fills the table with files, waits at the gate, and opens one more.
fn run_out(run: &mut Run) -> Result<Facts> {
    run.fill_to(run.soft, fds::openat)?;
    run.gate()?;
    run.full("openat", fds::openat(), run.soft)
}

/// The report comes first, so that nothing but the end follows the failing call; the exit status
/// still tells whether it did fail.
fn quick_exit(run: &mut Run) -> Result<Facts> {
    fail_and_go(run, "quick_exit", None)
}

/// The connections wait in a listener's queue, which this process is as well.
fn quick_exit_sockets(run: &mut Run) -> Result<Facts> {
    const CONNECTIONS: usize = 40;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    let address = listener.local_addr().context("getsockname")?;
    run.held.push(listener.into());
    for _ in 0..CONNECTIONS {
        let connection = TcpStream::connect(address).context("connect")?;
        run.held.push(connection.into());
    }
    let holder = Holder {
        kind: "tcp".to_owned(),
        target: Some(address.to_string()),
        count: CONNECTIONS as u64,
    };
    fail_and_go(run, "quick_exit_sockets", Some(holder))
}

fn fail_and_go(run: &mut Run, name: &str, holder: Option<Holder>) -> Result<Facts> {
    run.fill_to(run.soft, fds::openat)?;
    run.gate()?;
    let mut facts = run.facts("openat", 1, Some(libc::EMFILE))?;
    facts.holder = holder;
    tell(name, facts, true, None)?;
    let failed = must_fail("openat", fds::openat(), libc::EMFILE);
    process::exit_now(i32::from(failed.is_err()))
}

/// The victim is `generations` below the process that was started, which stays below its limit.
/// The gate is before the first fork.
fn offspring(run: &mut Run, generations: usize) -> Result<Facts> {
    run.gate()?;
    let (told, tells) = fds::pipe2().context("pipe2")?;
    let (released, release) = fds::pipe2().context("pipe2")?;
    let mut parents_ends = Some((told, release));
    let child = process::fork_into(|| {
        // The pipe that releases the victim must close with the first process.
        drop(parents_ends.take());
        descend(run, generations - 1, tells, released)
    })
    .context("fork")?;
    let (told, release) = parents_ends.take().context("the pipes to the child")?;
    let mut line = String::new();
    File::from(told)
        .read_to_string(&mut line)
        .context("the pipe from the victim")?;
    let mut facts: Facts = serde_json::from_str(&line).context("the victim told nothing")?;
    run.held.push(release);
    run.offspring.push(child);
    facts.children = vec![child];
    if facts.pid != child {
        facts.children.push(facts.pid);
    }
    ensure!(
        facts.children.len() == generations,
        "another process than intended ran out"
    );
    ensure!(run.used()? < run.soft, "the first process is full as well");
    Ok(facts)
}

/// A process in the line of descent: it forks the next one, or is the victim. Its exit status.
fn descend(run: &mut Run, further: usize, tells: OwnedFd, released: OwnedFd) -> i32 {
    if further == 0 {
        return victim(run, tells, released).map_or_else(|error| complain(&error), |()| 0);
    }
    let next = process::fork_into(|| descend(run, further - 1, tells, released));
    let status = next.and_then(process::wait_for);
    status.map_or_else(
        |error| complain(&error.into()),
        |status| status.unwrap_or(1),
    )
}

/// Runs out, tells it, and stays for as long as the first process does.
fn victim(run: &mut Run, tells: OwnedFd, released: OwnedFd) -> Result<()> {
    // The first process has waited at the gate for all of them.
    run.options.wait = false;
    let facts = run_out(run)?;
    serde_json::to_writer(File::from(tells), &facts)?;
    File::from(released)
        .read_to_end(&mut Vec::new())
        .context("the pipe to the victim")?;
    Ok(())
}

/// Says what went wrong in a child; its exit status.
fn complain(error: &anyhow::Error) -> i32 {
    eprintln!("gym: in process {}: {error:#}", std::process::id());
    1
}

/// The main thread's table stays nearly empty; the thread stays so that its table does.
fn own_table(run: &mut Run) -> Result<Facts> {
    let mut own = run.for_thread();
    let (tells, told) = mpsc::channel();
    thread::spawn(move || {
        let result = process::unshare_files()
            .context("unshare")
            .and_then(|()| run_out(&mut own));
        // The main thread waits for this, so there is somebody to receive it.
        let _ = tells.send(result);
        loop {
            thread::park();
        }
    });
    let facts = told.recv().context("the thread is gone")??;
    ensure!(facts.tid != facts.pid, "the main thread ran out");
    ensure!(run.used()? < run.soft, "the table is the main thread's");
    Ok(facts)
}

/// Becomes itself again: with another first argument, and under the name that the kernel takes
/// from the path, `exe`.
fn exec_then_open(run: &mut Run) -> Result<Facts> {
    if run.options.after_exec {
        return run_out(run);
    }
    let mut next = Command::new("/proc/self/exe");
    next.arg0("gym-after-exec")
        .args(env::args_os().skip(1))
        .arg("--after-exec");
    Err(next.exec()).context("exec")
}

/// The table is that of the threads that live on. What the main thread would do when a scenario is done, one of
/// them does.
fn leader_exited(run: &mut Run) -> Result<Facts> {
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
    }
    let mut left = run.for_thread();
    thread::spawn(move || {
        let outcome = stay_behind(&mut left);
        process::exit_now(outcome.map_or_else(|error| complain(&error), |()| 0));
    });
    process::exit_thread()
}

fn stay_behind(run: &mut Run) -> Result<()> {
    let leader = format!("/proc/self/task/{}/stat", process::id());
    until("the first thread has exited", || {
        let stat = fs::read_to_string(&leader).with_context(|| leader.clone())?;
        // The state comes behind the name, which is in parentheses.
        Ok(stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z")))
    })?;
    let count = run.options.count.unwrap_or(32);
    let wanted = run.used()?.saturating_add(count);
    // One of them has a path.
    let own = File::open("/proc/thread-self/exe").context("/proc/thread-self/exe")?;
    run.held.push(own.into());
    run.fill_to(wanted, fds::openat)?;
    run.gate()?;
    tell("leader_exited", run.facts("openat", 0, None)?, true, None)?;
    let mut rest = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut rest)
        .context("standard input")?;
    Ok(())
}

/// For whoever looks at processes that are far from, or close to, their limit.
fn hold(run: &mut Run) -> Result<Facts> {
    let count = run.options.count.unwrap_or(32);
    let used = run.used()?.saturating_add(count);
    ensure!(used <= run.soft, "{count} descriptors need --limit {used}");
    run.gate()?;
    run.fill_to(used, fds::openat)?;
    run.facts("openat", 0, None)
}
