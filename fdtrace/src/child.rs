//! Programs that fdtrace starts. They get what fdtrace was started with, not what it has changed for
//! itself, and end with it.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::{AsFd, OwnedFd},
    io::Errno,
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, getpriority_process, getrlimit,
        kill_process_group, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
        setpriority_process, setrlimit,
    },
    time::Timespec,
};

/// A program that has been asked to end (SIGTERM) is killed after so long.
pub const GRACE: Duration = Duration::from_secs(1);

/// What fdtrace changes for itself, as it was before.
#[derive(Clone, Copy, Debug)]
struct Given {
    nice: i32,
    files: Rlimit,
}

static GIVEN: OnceLock<Given> = OnceLock::new();

fn given() -> Given {
    *GIVEN.get_or_init(|| Given {
        nice: getpriority_process(None).unwrap_or(0),
        files: getrlimit(Resource::Nofile),
    })
}

/// Remembers what fdtrace was started with. To be called before any of it is changed; only the first call
/// counts.
pub fn remember() {
    given();
}

/// The nice value that fdtrace was started with.
#[must_use]
pub fn nice() -> i32 {
    given().nice
}

/// Makes the command run with the priority and the fd limits that fdtrace was started with, and end when the
/// thread that starts it does: that thread must live for as long as the child is wanted.
///
/// Signals need no care: handlers end with exec, and std gives a child an empty signal mask.
#[expect(
    unsafe_code,
    reason = "std has no other way to do something between fork and exec"
)]
pub fn prepare(command: &mut Command) -> &mut Command {
    let Given { nice, files } = given();
    let parent = getpid();
    let before_exec = move || {
        // Towards the ordinary priority and the lower limit, which nobody is refused.
        setpriority_process(None, nice)?;
        // Unchanged limits are left alone: above `fs.nr_open` the kernel refuses to set them even to what they are
        // (`do_prlimit` in kernel/sys.c).
        let now = getrlimit(Resource::Nofile);
        if (now.current, now.maximum) != (files.current, files.maximum) {
            setrlimit(Resource::Nofile, files)?;
        }
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: what runs in the forked child makes system calls and nothing else: no memory is allocated, no
    // lock is taken, and no drop has work to do.
    unsafe { command.pre_exec(before_exec) }
}

/// Closes what a process has inherited beside its standard streams (Linux 5.9). For one that has just begun: of what
/// fdtrace opens itself nothing is inherited.
#[expect(unsafe_code, reason = "neither std nor rustix closes what nobody owns")]
pub fn close_inherited() {
    // SAFETY: nothing in this process owns any of these yet; the call takes three numbers.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// A child's pidfd: unlike its number, it never means another process.
pub fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Errno::SRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Waits for the first of a child's end (`true`), readiness or hang-up of `other` (`false`), and the moment
/// given (`false`). The child is not reaped.
pub fn ends_by(pidfd: &impl AsFd, other: Option<&OwnedFd>, moment: Instant) -> io::Result<bool> {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(other.map(|other| PollFd::new(other, PollFlags::IN)));
        match poll(&mut fds, Some(&time)) {
            Ok(_) => {
                let has_ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
                return Ok(has_ended);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends a child that has not been reaped yet: SIGTERM, then SIGKILL after [`GRACE`]. `group`: with all that
/// is in the process group that it leads.
pub fn end(pidfd: &impl AsFd, group: Option<Pid>) {
    let signal = |signal| match group {
        Some(group) => kill_process_group(group, signal),
        None => pidfd_send_signal(pidfd, signal),
    };
    // Errors: it has ended already.
    let _ = signal(Signal::TERM);
    let has_ended = ends_by(pidfd, None, Instant::now() + GRACE).unwrap_or(false);
    if !has_ended || group.is_some() {
        let _ = signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Stdio, thread};

    use super::*;

    #[test]
    fn a_child_has_what_fdtrace_was_started_with() {
        remember();
        let Given { nice, files } = given();
        // As for a reader that must keep up, but of a kind that nobody is refused.
        let changed = thread::spawn(move || {
            setpriority_process(None, nice + 3).unwrap();
            let raised = Rlimit {
                current: files.maximum,
                maximum: files.maximum,
            };
            setrlimit(Resource::Nofile, raised).unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", "nice; ulimit -S -n"]);
            prepare(&mut command).output().unwrap()
        });
        let output = changed.join().unwrap();
        let soft = files
            .current
            .map_or("unlimited".to_owned(), |soft| soft.to_string());
        let text = String::from_utf8(output.stdout).unwrap();
        // `nice` cannot say less than -20, nor more than 19.
        assert_eq!(text, format!("{nice}\n{soft}\n"));
    }

    #[test]
    fn a_child_ends_with_the_thread_that_has_started_it() {
        let started = thread::spawn(|| {
            let mut command = Command::new("sleep");
            prepare(command.arg("600")).spawn().unwrap()
        });
        let mut child = started.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_child_that_takes_no_notice_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo; exec sleep 600"]);
        let mut child = prepare(&mut command)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It takes no notice from its first line on.
        let mut line = [0];
        let mut output = child.stdout.take().unwrap();
        io::Read::read_exact(&mut output, &mut line).unwrap();
        let pidfd = pidfd(&child).unwrap();
        let start = Instant::now();
        end(&pidfd, None);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(start.elapsed() >= GRACE);
    }
}
