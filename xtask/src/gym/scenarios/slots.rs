//! One table that changes: numbers taken, given back, copied over, reserved, and fought for.

use std::{
    collections::VecDeque,
    ffi::CString,
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Scenario;
use crate::{
    ends::Ends,
    report::Facts,
    run::{Run, must_fail, until},
    sys::{fds, process},
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    slots(
        "open_close",
        "opens and closes --count files, and keeps a few with gaps",
        open_close,
    ),
    slots("close_seen", "opens 100 files, and closes 99", close_seen).at(256),
    slots("dup_kinds", "makes copies in every way there is", dup_kinds),
    slots(
        "failed_opens",
        "opens a missing file --count times",
        failed_opens,
    ),
    slots(
        "accept_eagain",
        "accepts --count times where nobody connects",
        accept_eagain,
    ),
    slots(
        "reserved",
        "two calls wait with a number each that is no file yet",
        reserved,
    ),
    slots(
        "reserved_killed",
        "the same in a child that is killed",
        reserved_killed,
    ),
    slots(
        "close_range",
        "opens 10000 files, and closes all but 10 at once",
        close_range,
    )
    .at(10_100),
    slots(
        "two_threads_one_number",
        "two threads want the same number, for --seconds",
        two_threads_one_number,
    ),
    slots(
        "dup2_over",
        "dup2 over what another thread opens, for --seconds",
        dup2_over,
    ),
    slots(
        "grow",
        "four threads open --count files, up to the hard limit",
        grow,
    )
    .at(FILES + SPARE),
];

/// A scenario of this family, which holds still under its own name.
const fn slots(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run) -> Result<Facts>,
) -> Scenario {
    Scenario::new(name, about, run).named().staying()
}

/// A window of files moves over the numbers, closing out of turn; every other one is kept.
fn open_close(run: &mut Run) -> Result<Facts> {
    const WINDOW: usize = 16;
    run.gate()?;
    let mut window = VecDeque::new();
    for round in 0..run.options.count.unwrap_or(10_000) {
        if window.len() == WINDOW {
            let index = usize::try_from(round * 5 % 16)?;
            drop(window.remove(index));
        }
        window.push_back(fds::openat().context("openat")?);
    }
    window.clear();
    for index in 0..12 {
        window.push_back(fds::openat().with_context(|| format!("file {index}"))?);
    }
    for (index, file) in window.into_iter().enumerate() {
        if index % 2 == 1 {
            run.held.push(file);
        }
    }
    let numbers = run.numbers()?;
    ensure!(numbers == [4, 6, 8, 10, 12, 14], "{numbers:?} are open");
    run.still("openat")
}

/// The one that stays is the last.
fn close_seen(run: &mut Run) -> Result<Facts> {
    const OPENED: i32 = 100;
    run.gate()?;
    let mut numbers = Vec::new();
    for _ in 0..OPENED {
        numbers.push(fds::openat().context("openat")?.into_raw_fd());
    }
    let last = numbers.pop().context("nothing was opened")?;
    for number in numbers {
        fds::close(number).context("close")?;
    }
    ensure!(run.numbers()? == [last], "another number is left");
    run.still("close")
}

/// The numbers, and whether exec closes them, are checked call by call.
fn dup_kinds(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    let file = fds::openat().context("openat")?.into_raw_fd();
    let copy = fds::dup_of(file).context("dup")?;
    ensure!((file, copy) == (3, 4), "dup gave {copy} for {file}");
    let above = fds::dup_above(file, libc::F_DUPFD, 20).context("F_DUPFD")?;
    ensure!(above == 20, "F_DUPFD gave {above}");
    let closing = fds::dup_above(file, libc::F_DUPFD_CLOEXEC, 20).context("F_DUPFD_CLOEXEC")?;
    ensure!(closing == 21, "F_DUPFD_CLOEXEC gave {closing}");
    fds::dup2(file, 30).context("dup2 onto a free number")?;
    let other = fds::eventfd2().context("eventfd2")?.into_raw_fd();
    ensure!(other == 5, "eventfd2 gave {other}");
    fds::dup2(file, other).context("dup2 onto a used number")?;
    fds::dup2(above, above).context("dup2 onto itself")?;
    must_fail("dup3", fds::dup3(above, above), libc::EINVAL)?;
    fds::dup3_cloexec(file, 40).context("dup3")?;
    let numbers = run.numbers()?;
    ensure!(
        numbers == [3, 4, 5, 20, 21, 30, 40],
        "{numbers:?} are open instead"
    );
    for number in numbers {
        let expected = [21, 40].contains(&number);
        ensure!(
            fds::is_cloexec(number)? == expected,
            "exec treats {number} wrongly"
        );
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok();
        ensure!(
            target.is_none_or(|target| target.as_os_str() == "/dev/null"),
            "{number} is another file"
        );
    }
    run.still("dup3")
}

/// Every call takes a number, and gives it back.
fn failed_opens(run: &mut Run) -> Result<Facts> {
    let path = c"/gym/is/not/there";
    run.gate()?;
    for _ in 0..run.options.count.unwrap_or(100_000) {
        let result = fds::openat_path(path, libc::O_RDONLY);
        must_fail("openat", result, libc::ENOENT)?;
    }
    nothing_left(run, "openat")
}

/// As with missing files.
fn accept_eagain(run: &mut Run) -> Result<Facts> {
    let listener = listener()?;
    listener.set_nonblocking(true).context("O_NONBLOCK")?;
    run.gate()?;
    for _ in 0..run.options.count.unwrap_or(100_000) {
        let result = fds::accept4(listener.as_fd());
        must_fail("accept4", result, libc::EAGAIN)?;
    }
    let number = fds::openat().context("openat")?;
    ensure!(number.as_raw_fd() == 4, "a number is still taken");
    run.held.extend([listener.into(), number]);
    run.still("accept4")
}

/// Holds one file more, which has to get the lowest number.
fn nothing_left(run: &mut Run, call: &str) -> Result<Facts> {
    let file = fds::openat().context("openat")?;
    ensure!(file.as_raw_fd() == 3, "a number is still taken");
    run.held.push(file);
    run.still(call)
}

/// A listener in the namespace that needs no file.
fn listener() -> Result<UnixListener> {
    let name = format!("gym-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).context("an abstract address")?;
    UnixListener::bind_addr(&address).context("bind")
}

/// The calls end with the process.
fn reserved(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    reserve(run)
}

/// Has one thread wait in accept4, and another one in openat of a FIFO.
fn reserve(run: &mut Run) -> Result<Facts> {
    /// More numbers than a call can have skipped.
    const PROBES: usize = 8;
    let listener = listener()?;
    let accepting = listener.try_clone().context("dup")?;
    let path = std::env::temp_dir().join(format!("gym-fifo-{}", std::process::id()));
    let path = CString::new(path.into_os_string().into_encoded_bytes())?;
    fds::mkfifo(&path).context("mkfifo")?;
    let fifo = path.clone();
    let waiting = [
        blocked(move || drop(fds::accept4(accepting.as_fd())))?,
        blocked(move || drop(fds::openat_path(&fifo, libc::O_RDONLY)))?,
    ];
    run.held.push(listener.into());
    fs::remove_file(path.to_str()?).context("removing the FIFO")?;
    let probes: Vec<OwnedFd> = (0..PROBES)
        .map(|_| fds::openat())
        .collect::<Result<_, _>>()?;
    let last = probes.last().context("no probe")?.as_raw_fd();
    let skipped: Vec<_> = (0..last).filter(|&number| !fds::is_open(number)).collect();
    ensure!(skipped.len() == 2, "{skipped:?} are reserved");
    drop(probes);
    for number in skipped {
        must_fail("dup2", fds::dup2(0, number), libc::EBUSY)?;
    }
    let mut facts = run.still_reserving("accept4", 2)?;
    facts.note = Some(format!("threads {} and {} wait", waiting[0], waiting[1]));
    Ok(facts)
}

/// Starts a thread whose call waits for good; its number, once the thread does wait.
fn blocked(call: impl FnOnce() + Send + 'static) -> Result<i32> {
    static CALLING: AtomicI32 = AtomicI32::new(0);
    CALLING.store(0, Ordering::SeqCst);
    thread::spawn(move || {
        CALLING.store(process::tid(), Ordering::SeqCst);
        call();
    });
    until("the thread is about to call", || {
        Ok(CALLING.load(Ordering::SeqCst) != 0)
    })?;
    let tid = CALLING.load(Ordering::SeqCst);
    let path = format!("/proc/self/task/{tid}/stat");
    until("the call waits", || {
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name, in brackets, may hold anything.
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        Ok(state.is_some_and(|state| state.starts_with('S')))
    })?;
    Ok(tid)
}

/// What the child had reserved goes with its table.
fn reserved_killed(run: &mut Run) -> Result<Facts> {
    let ends = Ends::new()?;
    run.gate()?;
    let child = process::fork_into(|| {
        let left = ends.leave();
        ends.stay(|| {
            ensure!(left, "the first process's ends cannot be closed");
            process::die_with_parent()?;
            reserve(run)
        })
    })
    .context("fork")?;
    let facts = ends.hear()?.context("the child told nothing")?;
    ensure!(facts.used == facts.open + 2, "nothing was reserved");
    process::kill(child).context("kill")?;
    let status = process::wait_for(child).context("waitpid")?;
    ensure!(status.is_none(), "the child ended by itself");
    ends.keep(run, []);
    let mut facts = run.still("accept4")?;
    facts.note = Some(format!("killed {child}"));
    Ok(facts)
}

/// Fewer files where the hard limit is lower.
fn close_range(run: &mut Run) -> Result<Facts> {
    const LEFT: i32 = 10;
    run.gate()?;
    let count = run.options.count.unwrap_or(10_000);
    let count = i32::try_from(count.min(run.soft - SPARE))?;
    ensure!(count > LEFT, "--count has to be above {LEFT}");
    for _ in 0..count {
        // The numbers belong to nobody: close_range takes them.
        let _: i32 = fds::openat().context("openat")?.into_raw_fd();
    }
    let end = 3 + count;
    fds::close_range(3, end - LEFT - 1, 0).context("close_range")?;
    let numbers = run.numbers()?;
    ensure!(
        numbers.iter().copied().eq(end - LEFT..end),
        "{numbers:?} are open"
    );
    run.still("close_range")
}

/// How long to go on for.
fn time(run: &Run) -> Duration {
    Duration::from_secs(run.options.seconds.unwrap_or(10))
}

/// Says that a thread may go on, until it is dropped, however that comes.
struct GoOn<'a>(&'a AtomicBool);

impl Drop for GoOn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Each of them ends with one file open.
fn two_threads_one_number(run: &mut Run) -> Result<Facts> {
    /// Opens and closes up to the end; how often, and the last file.
    fn compete(end: Instant, start: &Barrier) -> Result<(u64, OwnedFd)> {
        start.wait();
        let mut rounds = 0;
        loop {
            let file = fds::openat().context("openat")?;
            let number = file.as_raw_fd();
            ensure!((3..5).contains(&number), "two threads reached {number}");
            rounds += 1;
            if Instant::now() >= end {
                return Ok((rounds, file));
            }
        }
    }
    run.gate()?;
    let end = Instant::now() + time(run);
    let start = Barrier::new(2);
    let results = thread::scope(|scope| {
        let other = scope.spawn(|| compete(end, &start));
        [compete(end, &start), joined(other)]
    });
    let mut rounds = Vec::new();
    for result in results {
        let (times, file) = result?;
        rounds.push(times);
        run.held.push(file);
    }
    let mut facts = run.still("openat")?;
    facts.note = Some(format!("opened {} and {} times", rounds[0], rounds[1]));
    Ok(facts)
}

/// What a thread returns, or that it has panicked.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread panicked"),
    }
}

/// A number that the other thread has taken without its file yet is busy for dup2; nobody owns
/// any of the numbers, so that each thread may close what the other one made.
fn dup2_over(run: &mut Run) -> Result<Facts> {
    /// The first number that is fought for.
    const FIRST: i32 = 3;
    /// The first one beyond.
    const END: i32 = 19;
    /// What `copies` and `takes` count: calls that worked, calls that met the other thread.
    type Calls = (u64, u64);

    /// Copies standard input over all numbers, in turn.
    fn copies(go_on: &AtomicBool) -> Result<Calls> {
        let (mut copied, mut busy) = (0, 0);
        for number in (FIRST..END).cycle() {
            if !go_on.load(Ordering::Relaxed) {
                break;
            }
            match fds::dup2(0, number) {
                Ok(()) => copied += 1,
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => busy += 1,
                Err(error) => return Err(error).context("dup2"),
            }
        }
        Ok((copied, busy))
    }

    /// Opens a few files, and closes all numbers, whoever opened them.
    fn takes(end: Instant) -> Result<Calls> {
        let (mut opened, mut gone) = (0, 0);
        while Instant::now() < end {
            for _ in 0..4 {
                let number = fds::openat().context("openat")?.into_raw_fd();
                opened += 1;
                if number >= END {
                    fds::close(number).context("close")?;
                }
            }
            for number in FIRST..END {
                match fds::close(number) {
                    Err(error) if error.raw_os_error() == Some(libc::EBADF) => gone += 1,
                    result => result.context("close")?,
                }
            }
        }
        Ok((opened, gone))
    }

    run.gate()?;
    let end = Instant::now() + time(run);
    let going = AtomicBool::new(true);
    let (copies, takes) = thread::scope(|scope| {
        let other = scope.spawn(|| copies(&going));
        let go_on = GoOn(&going);
        let takes = takes(end);
        drop(go_on);
        (joined(other), takes)
    });
    let ((replaced, busy), (opened, _)) = (copies?, takes?);
    ensure!(replaced > 0 && opened > 0, "one thread did nothing");
    // What is left over is up to chance; three numbers are there for certain.
    for number in [FIRST, FIRST + 2, END - 1] {
        fds::dup2(0, number).context("dup2")?;
    }
    let mut facts = run.still("dup2")?;
    facts.note = Some(format!("opened {opened}, replaced {replaced}, busy {busy}"));
    Ok(facts)
}

/// How many files `grow` opens.
const FILES: u64 = 200_000;

/// Numbers that are left below the limit, to look at the table with.
const SPARE: u64 = 32;

/// Fewer files where the hard limit is lower.
fn grow(run: &mut Run) -> Result<Facts> {
    const THREADS: u64 = 4;
    let count = run.options.count.unwrap_or(FILES);
    run.limit_to(run.soft.max(count.saturating_add(SPARE)))?;
    let count = count.min(run.soft - SPARE);
    run.gate()?;
    let start = Barrier::new(usize::try_from(THREADS)?);
    let opened = thread::scope(|scope| {
        let open = |index| {
            let (start, share) = (&start, count / THREADS + u64::from(index < count % THREADS));
            scope.spawn(move || {
                start.wait();
                let files = (0..share).map(|_| fds::openat().context("openat"));
                files.collect::<Result<Vec<_>>>()
            })
        };
        // All of them start before the first is waited for.
        let started: Vec<_> = (0..THREADS).map(open).collect();
        started.into_iter().map(joined).collect::<Vec<_>>()
    });
    for files in opened {
        run.held.extend(files?);
    }
    let facts = run.still("openat")?;
    ensure!(
        facts.used == 3 + count,
        "{} numbers are taken instead of {}",
        facts.used,
        3 + count
    );
    Ok(facts)
}
