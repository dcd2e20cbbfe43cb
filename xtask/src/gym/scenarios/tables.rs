//! Tables that are copied, shared, parted and given up.
//!
//! `children` are the processes that are still there; which end on the way is in `note`, where it
//! matters.

use std::{
    env,
    ffi::{CStr, CString},
    fs::{self, File},
    io::Write as _,
    os::{
        fd::{AsRawFd as _, IntoRawFd},
        unix::{ffi::OsStringExt as _, process::CommandExt as _},
    },
    process::Command,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Scenario;
use crate::{
    ends::{Ends, Side},
    report::{Facts, Skip, offered},
    run::{PATIENCE, Run, until},
    sys::{
        fds,
        process::{self, Action},
    },
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    tables(
        "close_range_cloexec",
        "close_range marks fds that exec then closes",
        close_range_cloexec,
    ),
    tables(
        "close_range_unshare",
        "close_range gives a thread its own table",
        close_range_unshare,
    ),
    tables(
        "fork_close",
        "a parent closes what its child keeps",
        fork_close,
    ),
    tables(
        "fork_race",
        "forks --count times while a thread opens and closes",
        fork_race,
    ),
    tables(
        "shared_table",
        "two processes share a table, and its creator ends",
        shared_table,
    )
    .at(256),
    tables(
        "unshare_thread",
        "a thread parts from the table, and both open more",
        unshare_thread,
    ),
    tables(
        "vfork_exec",
        "a child in its parent's memory becomes a program",
        vfork_exec,
    ),
    tables(
        "posix_spawn_actions",
        "starts a program with file actions",
        posix_spawn_actions,
    ),
    tables(
        "exec_cloexec",
        "exec closes what is marked in three ways",
        exec_cloexec,
    ),
    tables(
        "exec_from_thread",
        "a thread that is not the first becomes a program",
        exec_from_thread,
    ),
    tables(
        "exit_threads",
        "a child ends while 50 threads of it open files",
        exit_threads,
    )
    .at(1024),
    tables(
        "kill_while_opening",
        "--count children are killed while they open and close",
        kill_while_opening,
    ),
    tables("fork_exit", "forks --count children that end", fork_exit),
    tables(
        "pid_reuse",
        "a child has the number of one that is gone",
        pid_reuse,
    ),
];

/// A scenario of this family, which holds still under its own name.
const fn tables(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run) -> Result<Facts>,
) -> Scenario {
    Scenario::new(name, about, run).named().staying()
}

/// Opens files that stay for as long as the process does.
pub(super) fn open(run: &mut Run, count: usize) -> Result<()> {
    for _ in 0..count {
        run.held.push(fds::openat().context("openat")?);
    }
    Ok(())
}

/// Opens files that nothing in this program owns, whose numbers have to be these.
fn open_loose(numbers: impl IntoIterator<Item = i32>) -> Result<()> {
    for expected in numbers {
        let number = fds::openat().context("openat")?.into_raw_fd();
        ensure!(number == expected, "openat gave {number} for {expected}");
    }
    Ok(())
}

/// Insists that of the numbers from 3 up these are open.
fn only_open(run: &Run, expected: impl IntoIterator<Item = i32>) -> Result<()> {
    let numbers = run.numbers()?;
    ensure!(
        numbers.iter().copied().eq(expected),
        "{numbers:?} are open instead"
    );
    Ok(())
}

/// Becomes itself again, for the second half of the scenario.
fn exec() -> Result<Facts> {
    let mut next = Command::new("/proc/self/exe");
    next.arg0("gym-after-exec")
        .args(env::args_os().skip(1))
        .arg("--after-exec");
    Err(next.exec()).context("exec")
}

/// Starts itself as another process, for the second half of the scenario.
fn start<T>(starting: impl FnOnce(&CStr, &[&CStr]) -> std::io::Result<T>) -> Result<T> {
    let arguments = env::args_os().chain(["--after-exec".into()]);
    let arguments = arguments.map(|argument| CString::new(argument.into_vec()));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let arguments: Vec<_> = arguments.iter().map(CString::as_c_str).collect();
    starting(c"/proc/self/exe", &arguments).context("starting gym")
}

/// Forks a child that does its part in telling and staying.
fn child(ends: &Ends, part: impl FnOnce() -> Result<Facts>) -> Result<i32> {
    process::fork_into(|| {
        let left = ends.leave();
        ends.stay(|| {
            ensure!(left, "the first process's ends cannot be closed");
            process::die_with_parent().context("PR_SET_PDEATHSIG")?;
            part()
        })
    })
    .context("fork")
}

/// The facts that a child tells, which is to be that one.
fn child_facts(ends: &Ends, pid: i32) -> Result<Facts> {
    let mut facts = ends.hear()?.context("the child told nothing")?;
    ensure!(facts.pid == pid, "{} told in place of {pid}", facts.pid);
    facts.children = vec![pid];
    Ok(facts)
}

/// Has a thread do its part, and stay until the process ends; what it has found out.
pub(super) fn staying_thread<T: Send + 'static>(
    part: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (tells, told) = mpsc::channel();
    thread::spawn(move || {
        let result = part();
        // The caller waits for this, so there is somebody to receive it.
        let _ = tells.send(result);
        loop {
            thread::park();
        }
    });
    told.recv_timeout(PATIENCE)
        .context("the thread tells nothing")?
}

/// Linux 5.11 brought the flag.
fn close_range_cloexec(run: &mut Run) -> Result<Facts> {
    const OPENED: std::ops::Range<i32> = 3..23;
    const MARKED: std::ops::Range<i32> = 8..18;
    if run.options.after_exec {
        only_open(run, OPENED.filter(|number| !MARKED.contains(number)))?;
        return run.still("close_range");
    }
    open_loose(OPENED)?;
    run.gate()?;
    let marking = fds::close_range(MARKED.start, MARKED.end - 1, libc::CLOSE_RANGE_CLOEXEC);
    if let Err(error) = &marking
        && error.raw_os_error() == Some(libc::EINVAL)
    {
        bail!(Skip(format!("CLOSE_RANGE_CLOEXEC: {error}")));
    }
    marking.context("close_range")?;
    for number in OPENED {
        ensure!(
            fds::is_cloexec(number)? == MARKED.contains(&number),
            "exec would treat {number} wrongly"
        );
    }
    exec()
}

/// The thread's table starts with what is below the range only.
fn close_range_unshare(run: &mut Run) -> Result<Facts> {
    const OPENED: std::ops::Range<i32> = 3..23;
    /// From here on, the thread's table is without them.
    const FIRST: i32 = 8;
    open_loose(OPENED)?;
    run.gate()?;
    let own = run.for_thread();
    let tid = staying_thread(move || {
        fds::close_range(FIRST, i32::MAX, libc::CLOSE_RANGE_UNSHARE).context("close_range")?;
        only_open(&own, OPENED.start..FIRST)?;
        // One of its own shows that the tables have parted.
        open_loose([FIRST])?;
        Ok(process::tid())
    })?;
    only_open(run, OPENED)?;
    let mut facts = run.still("close_range")?;
    facts.note = Some(format!("thread {tid} has {} open", FIRST + 1));
    Ok(facts)
}

/// The child opens two more, so that no two tables are alike.
fn fork_close(run: &mut Run) -> Result<Facts> {
    const OPENED: usize = 20;
    const CLOSED: usize = 10;
    let ends = Ends::new()?;
    open(run, OPENED)?;
    run.gate()?;
    let pid = child(&ends, || {
        open(run, 2)?;
        run.still("openat")
    })?;
    drop(run.held.drain(..CLOSED));
    let theirs = child_facts(&ends, pid)?;
    ends.keep(run, [pid]);
    let mut facts = run.still("close")?;
    // Of the pipes, each side has two ends.
    ensure!(
        theirs.open == facts.open + u64::try_from(CLOSED + 2)?,
        "the child has {} open, the parent {}",
        theirs.open,
        facts.open
    );
    facts.children = vec![pid];
    facts.note = Some(format!("the child has {} open", theirs.open));
    Ok(facts)
}

/// The last few children stay; the others end at once.
fn fork_race(run: &mut Run) -> Result<Facts> {
    const STAYING: u64 = 5;
    /// So many at once are open in the thread at most.
    const WINDOW: usize = 8;
    let ends = Ends::new()?;
    let count = run.options.count.unwrap_or(200).max(STAYING);
    run.gate()?;
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let (opening, forking) = thread::scope(|scope| {
        let opening = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let files = (0..WINDOW).map(|_| fds::openat());
                drop(files.collect::<Result<Vec<_>, _>>().context("openat")?);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let forking = fork_often(&ends, &rounds, count - STAYING, STAYING);
        stop.store(true, Ordering::Relaxed);
        (opening.join(), forking)
    });
    let children = forking?;
    opening.map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    ends.keep(run, children.iter().copied());
    let mut facts = run.still("openat")?;
    facts.children = children;
    facts.note = Some(format!("{} rounds", rounds.into_inner()));
    Ok(facts)
}

/// Forks children that end, and then some that stay, once the other thread is on its way.
fn fork_often(ends: &Ends, rounds: &AtomicU64, ending: u64, staying: u64) -> Result<Vec<i32>> {
    until("the thread opens files", || {
        Ok(rounds.load(Ordering::Relaxed) > 0)
    })?;
    for _ in 0..ending {
        let pid = process::fork_bare(|| 0).context("fork")?;
        let status = process::wait_for(pid).context("waitpid")?;
        ensure!(status == Some(0), "child {pid} did not end well");
    }
    let mut children = Vec::new();
    for _ in 0..staying {
        children.push(process::fork_bare(|| ends.stay_bare()).context("fork")?);
        ensure!(ends.hear()?.is_none(), "a child told more than it can");
    }
    Ok(children)
}

/// The creator is a child, so that there is somebody to tell; the facts are the sharer's.
fn shared_table(run: &mut Run) -> Result<Facts> {
    const BEFORE: usize = 100;
    /// More than the creator's limit allows.
    const AFTER: usize = 200;
    const LIMIT: u64 = 512;
    process::adopt_descendants().context("PR_SET_CHILD_SUBREAPER")?;
    let ends = Ends::new()?;
    run.gate()?;
    let creator = process::fork_into(|| {
        let creator = process::id();
        // From here on there is one table less to keep the pipes open.
        let left = ends.leave();
        let made = open(run, BEFORE).and_then(|()| {
            let sharing = || {
                ends.stay(|| {
                    ensure!(left, "the first process's ends cannot be closed");
                    run.limit_to(LIMIT)?;
                    until("the creator has ended", || Ok(process::parent() != creator))?;
                    open(run, AFTER)?;
                    run.still("openat")
                })
            };
            process::clone_files(sharing).context("clone")
        });
        made.map_or_else(|error| ends.complain(&error), |_| 0)
    })
    .context("fork")?;
    let status = process::wait_for(creator).context("waitpid")?;
    let facts = ends.hear()?.context("the sharer told nothing");
    ensure!(status == Some(0), "the creator did not end well");
    let mut facts = facts?;
    ends.keep(run, [facts.pid]);
    let expected = u64::try_from(3 + 2 + BEFORE + AFTER)?;
    ensure!(
        facts.used == expected,
        "the sharer has {} open instead of {expected}",
        facts.used
    );
    facts.children = vec![facts.pid];
    facts.note = Some(format!("the creator {creator} has ended"));
    Ok(facts)
}

/// The same number is one file here, and another one there.
fn unshare_thread(run: &mut Run) -> Result<Facts> {
    open_loose(3..8)?;
    run.gate()?;
    let own = run.for_thread();
    let tid = staying_thread(move || {
        process::unshare_files().context("unshare")?;
        for _ in 0..5 {
            let _: i32 = fds::eventfd2().context("eventfd2")?.into_raw_fd();
        }
        only_open(&own, 3..13)?;
        Ok(process::tid())
    })?;
    open_loose(8..11)?;
    only_open(run, 3..11)?;
    let mut facts = run.still("openat")?;
    facts.note = Some(format!("thread {tid} has 13 open"));
    Ok(facts)
}

/// The facts are the program's; it finds its ends of the pipes where they are in every run.
fn vfork_exec(run: &mut Run) -> Result<Facts> {
    const TELLS: i32 = 4;
    const RELEASED: i32 = 5;
    if run.options.after_exec {
        program(run, TELLS, RELEASED, &[TELLS, RELEASED, 7, 8, 9]);
    }
    let ends = Ends::new()?;
    ensure!(
        ends.numbers() == (TELLS, RELEASED),
        "the pipes are elsewhere"
    );
    open(run, 6)?;
    for file in &run.held[3..] {
        fds::set_cloexec(file.as_raw_fd()).context("FD_CLOEXEC")?;
    }
    run.gate()?;
    let pid = start(process::vfork_exec)?;
    let facts = child_facts(&ends, pid)?;
    ends.keep(run, [pid]);
    Ok(facts)
}

/// The second half of a program that was started: checks what it has, opens one more file, tells,
/// and stays.
fn program(run: &mut Run, tells: i32, released: i32, expected: &[i32]) -> ! {
    let checked = process::die_with_parent()
        .context("PR_SET_PDEATHSIG")
        .and_then(|()| only_open(run, expected.iter().copied()));
    let side = Side::inherited(tells, released);
    let status = side.map_or(1, |side| {
        side.stay(|| {
            checked?;
            open(run, 1)?;
            run.still("openat")
        })
    });
    process::exit_now(status)
}

/// As with `vfork_exec`, the facts are the program's.
fn posix_spawn_actions(run: &mut Run) -> Result<Facts> {
    const TELLS: i32 = 20;
    const RELEASED: i32 = 21;
    const COPY: i32 = 22;
    const OPENED: i32 = 23;
    if run.options.after_exec {
        let expected = [7, 8, 10, TELLS, RELEASED, COPY, OPENED];
        program(run, TELLS, RELEASED, &expected);
    }
    let ends = Ends::new()?;
    let (tells, released) = ends.numbers();
    open(run, 4)?;
    only_open(run, 3..11)?;
    run.gate()?;
    let actions = [
        Action::Dup2(tells, TELLS),
        Action::Dup2(released, RELEASED),
        Action::Close(tells),
        Action::Close(released),
        Action::Dup2(7, COPY),
        Action::Close(9),
        Action::Open(OPENED, c"/dev/null"),
        // What is open there is closed first.
        Action::Open(10, c"/dev/zero"),
    ];
    let pid = start(|path, arguments| process::posix_spawn(path, arguments, &actions))?;
    let facts = child_facts(&ends, pid)?;
    ends.keep(run, [pid]);
    Ok(facts)
}

/// The three ways and the one without a mark take turns.
fn exec_cloexec(run: &mut Run) -> Result<Facts> {
    const NUMBERS: std::ops::Range<i32> = 3..23;
    /// Whether exec leaves the number open.
    fn plain(number: i32) -> bool {
        number % 4 == 3
    }
    if run.options.after_exec {
        only_open(run, NUMBERS.filter(|&number| plain(number)))?;
        return run.still("execve");
    }
    for expected in NUMBERS {
        let number = match expected % 4 {
            0 => {
                let flags = libc::O_RDONLY | libc::O_CLOEXEC;
                fds::openat_path(c"/dev/null", flags).map(IntoRawFd::into_raw_fd)
            }
            1 => fds::dup_above(0, libc::F_DUPFD_CLOEXEC, 3),
            2 => fds::dup_of(0).and_then(|number| fds::set_cloexec(number).map(|()| number)),
            _ => fds::openat().map(IntoRawFd::into_raw_fd),
        }
        .context("opening")?;
        ensure!(
            number == expected,
            "{number} is open in place of {expected}"
        );
        ensure!(
            fds::is_cloexec(number)? != plain(number),
            "exec would treat {number} wrongly"
        );
    }
    run.gate()?;
    exec()
}

/// The others end with exec, and the process keeps its number.
fn exec_from_thread(run: &mut Run) -> Result<Facts> {
    const OPENED: std::ops::Range<i32> = 3..8;
    const OTHERS: usize = 3;
    if run.options.after_exec {
        only_open(run, OPENED)?;
        let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
        ensure!(threads.is_ok_and(|count| count == 1), "a thread is left");
        open(run, 2)?;
        let facts = run.still("execve")?;
        ensure!(facts.tid == facts.pid, "the thread has kept its number");
        return Ok(facts);
    }
    open_loose(OPENED)?;
    for _ in 0..OTHERS {
        staying_thread(|| Ok(()))?;
    }
    run.gate()?;
    // It returns only if exec fails.
    staying_thread(exec)
}

/// The child ends once each of its threads has opened a file, and while they go on.
fn exit_threads(run: &mut Run) -> Result<Facts> {
    const THREADS: usize = 50;
    const WINDOW: usize = 10;
    let ends = Ends::new()?;
    open(run, 3)?;
    run.gate()?;
    let pid = process::fork_into(|| {
        let left = ends.leave();
        let (tells, opened) = mpsc::channel();
        for _ in 0..THREADS {
            let tells = tells.clone();
            let started = thread::Builder::new().stack_size(64 << 10).spawn(move || {
                let mut files = Vec::new();
                loop {
                    let result = fds::openat();
                    if files.is_empty() {
                        // The receiver may have left already, which is not this thread's concern.
                        let _ = tells.send(result.is_ok());
                    }
                    files.extend(result);
                    if files.len() == WINDOW {
                        files.truncate(1);
                    }
                }
            });
            if let Err(error) = started {
                return ends.complain(&error.into());
            }
        }
        let well = (0..THREADS).all(|_| opened.recv_timeout(PATIENCE) == Ok(true));
        i32::from(!(left && well))
    })
    .context("fork")?;
    let status = process::wait_for(pid).context("waitpid")?;
    ensure!(status == Some(0), "the child did not end well");
    ends.keep(run, []);
    let mut facts = run.still("exit_group")?;
    facts.note = Some(format!("{pid} has ended"));
    Ok(facts)
}

/// Each child is killed once it has gone round.
fn kill_while_opening(run: &mut Run) -> Result<Facts> {
    const WINDOW: usize = 10;
    let ends = Ends::new()?;
    run.gate()?;
    for _ in 0..run.options.count.unwrap_or(20) {
        let pid = process::fork_into(|| {
            if !ends.leave() || process::die_with_parent().is_err() {
                return 1;
            }
            let mut told = false;
            loop {
                let files = (0..WINDOW).map(|_| fds::openat());
                match files.collect::<Result<Vec<_>, _>>() {
                    Ok(files) => drop(files),
                    Err(error) => return ends.complain(&error.into()),
                }
                if !told && ends.tell().is_err() {
                    return 1;
                }
                told = true;
            }
        })
        .context("fork")?;
        ensure!(ends.hear()?.is_none(), "a child told more than it should");
        process::kill(pid).context("kill")?;
        let status = process::wait_for(pid).context("waitpid")?;
        ensure!(status.is_none(), "child {pid} ended by itself");
    }
    ends.keep(run, []);
    run.still("openat")
}

/// One at a time.
fn fork_exit(run: &mut Run) -> Result<Facts> {
    open(run, 5)?;
    run.gate()?;
    for _ in 0..run.options.count.unwrap_or(100_000) {
        let pid = i32::try_from(process::clone().context("clone")?)?;
        let status = process::wait_for(pid).context("waitpid")?;
        ensure!(status == Some(0), "child {pid} did not end well");
    }
    run.still("clone")
}

/// The facts are the second child's.
fn pid_reuse(run: &mut Run) -> Result<Facts> {
    const NAME: &str = "/proc/sys/kernel/ns_last_pid";
    /// Another process can get the number first.
    const ATTEMPTS: usize = 100;
    drop(offered(NAME, File::options().write(true).open(NAME))?);
    let ends = Ends::new()?;
    run.gate()?;
    for _ in 0..ATTEMPTS {
        let first = process::fork_into(|| {
            let opened = ends.leave() && open(run, 10).is_ok();
            i32::from(!opened || ends.tell().is_err())
        })
        .context("fork")?;
        ensure!(ends.hear()?.is_none(), "a child told more than it should");
        let status = process::wait_for(first).context("waitpid")?;
        ensure!(status == Some(0), "child {first} did not end well");
        let mut last = File::options().write(true).open(NAME).context(NAME)?;
        let before = (first - 1).to_string();
        offered(NAME, last.write_all(before.as_bytes()))?;
        drop(last);
        let second = child(&ends, || {
            for _ in 0..5 {
                run.held.push(fds::eventfd2().context("eventfd2")?);
            }
            fds::dup2(0, 40).context("dup2")?;
            run.still("eventfd2")
        })?;
        let facts = child_facts(&ends, second)?;
        if second == first {
            ends.keep(run, [second]);
            return Ok(facts);
        }
        process::kill(second).context("kill")?;
        process::wait_for(second).context("waitpid")?;
    }
    bail!(Skip(format!("others were quicker {ATTEMPTS} times")))
}
