//! The kernel tests in guests, on the backends that this machine may refuse.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    interpreters,
    matrix::{Backend, Guest},
    record,
    recorder::{Recorder, SECTION},
    stage,
    tally::Tally,
};
use crate::{bench::peers, build, kernel::Kernel, vm};

/// As many as the usual machine has processors for, given that each guest keeps one busy.
const AT_ONCE: usize = 2;

/// The tests take half of it on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_mins(40);

/// The kernel whose guest has Python and Node, and the memory that they take: the interpreters are the same
/// everywhere, and so is what the kernel tells of them.
const WITH_INTERPRETERS: Kernel = Kernel::V6_1;
const THEIR_MEMORY: &str = "2G";

/// Files for guests, by their place there.
type Files = BTreeMap<PathBuf, PathBuf>;

/// Of util-linux, which every Debian has.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// The soak, on the newest kernel alone: it is long, and about fdtrace's memory.
const SOAK: &str = "FDTRACE_SOAK_SECONDS";
/// How long it goes on unless the variable says otherwise.
const SOAK_SECONDS: &str = "60";

/// The stages with guests in them.
pub(super) fn stages(total: &mut Tally, filter: Option<&str>, guests: Vec<Guest>) {
    let has_interpreters = guests.iter().any(|guest| guest.kernel == WITH_INTERPRETERS);
    let mut executables = Files::new();
    let mut interpreters = Files::new();
    let mut is_complete = false;
    stage(total, "executables for guests", |_| {
        let tests = build::kernel_tests()?;
        executables.insert("/bin/fdtrace".into(), tests.fdtrace);
        executables.insert("/kernel".into(), tests.kernel);
        executables.insert("/bin/gym".into(), build::gym()?);
        let victims = build::victims()?.into_iter();
        executables.extend(victims.map(|(path, place)| (place, path)));
        // What a report says to type, which busybox does not have; its C library is the victims' as well.
        let prlimit = peers::with_libraries(Path::new(PRLIMIT))?;
        let place = |path: &Path| match path.to_str() {
            Some(PRLIMIT) => PathBuf::from("/bin/prlimit"),
            _ => path.to_owned(),
        };
        executables.extend(prlimit.into_iter().map(|path| (place(&path), path)));
        if has_interpreters {
            interpreters = interpreters::files()?;
        }
        is_complete = true;
        Ok(())
    });
    // A failure to build them has been counted, and there is nothing to boot.
    if is_complete {
        all(total, &executables, &interpreters, filter, guests);
    }
}

fn all(
    total: &mut Tally,
    executables: &Files,
    interpreters: &Files,
    filter: Option<&str>,
    guests: Vec<Guest>,
) {
    let queue = Mutex::new(VecDeque::from(guests));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let tallies = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(guest) = next() {
                    let request = request(&guest, executables, interpreters, filter);
                    let tally = one(&request);
                    tallies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(tally);
                }
            });
        }
    });
    for tally in tallies.into_inner().unwrap_or_else(PoisonError::into_inner) {
        total.add(tally);
    }
}

fn one(request: &vm::Request) -> Tally {
    let (kernel, start) = (request.kernel, Instant::now());
    println!(
        "\n=== kernel {kernel}: {}",
        kernel.package().unwrap_or_default()
    );
    let prefix = format!("{kernel:<4} | ");
    let tally = record(&format!("kernel {kernel}"), &prefix, |recorder| {
        boot(request, recorder)
    });
    let verdict = if tally.failed == 0 {
        "passed"
    } else {
        "FAILED"
    };
    println!(
        "=== kernel {kernel}: {verdict} in {:.1} s",
        start.elapsed().as_secs_f32()
    );
    tally
}

fn boot(request: &vm::Request, recorder: &mut Recorder) -> Result<()> {
    let status = vm::run(request, recorder)?.status()?;
    if status != 0 {
        bail!("the tests ended with status {status}");
    }
    Ok(())
}

fn request(
    guest: &Guest,
    executables: &Files,
    interpreters: &Files,
    filter: Option<&str>,
) -> vm::Request {
    let kernel = guest.kernel;
    let mut command = ["sh", "-c", &script(&guest.backends), "kernel tests"]
        .map(str::to_owned)
        .to_vec();
    command.extend(filter.map(str::to_owned));
    let mut request = vm::Request::new(kernel, command);
    let mut files = executables.clone();
    if kernel == WITH_INTERPRETERS {
        files.extend(interpreters.clone());
        THEIR_MEMORY.clone_into(&mut request.memory);
    }
    request.files = files
        .into_iter()
        .map(|(place, path)| (path, place))
        .collect();
    let variables = [("FDTRACE_BIN", "/bin/fdtrace"), ("FDTRACE_GYM", "/bin/gym")];
    request.environment = variables
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    // Who asks for tests by name means them here.
    if !guest.is_whole && filter.is_none() {
        let name = kernel.to_string();
        request
            .environment
            .push(("FDTRACE_KERNEL".to_owned(), name));
    }
    if kernel == Kernel::New {
        let seconds = env::var(SOAK).unwrap_or_else(|_| SOAK_SECONDS.to_owned());
        request.environment.push((SOAK.to_owned(), seconds));
    }
    request.limit = LIMIT;
    request
}

/// One run for each backend, the second one whatever the first one found. What has nothing to do with the backend
/// runs with the first one, and what cannot be undone with the last one.
fn script(backends: &[Backend]) -> String {
    let mut script = "status=0\n".to_owned();
    for (index, backend) in backends.iter().enumerate() {
        let is_first = u8::from(index == 0);
        let is_last = u8::from(index + 1 == backends.len());
        let _ = writeln!(script, "echo '{SECTION}{backend}'");
        let _ = writeln!(
            script,
            "FDTRACE_BACKEND={backend} FDTRACE_FIRST={is_first} FDTRACE_LAST={is_last} \
             /kernel --test-threads=1 \"$@\" || status=1"
        );
    }
    script + "exit $status\n"
}
