//! What /proc says of a process that is still there.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use procfs::process::{Process, StatFlags};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// Threads that are looked at: of those whose first one has exited, the next one has most often not.
const THREADS: usize = 16;

/// Where a process's files, namespaces and memory are under /proc: its own folder, or, where its first thread has exited
/// and has none of these any more, that of another thread.
#[must_use]
pub fn folder(pid: u32) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{pid}"));
    // Nothing else is not there: where one may not look, one may not look at other threads either.
    let has_exited = |folder: &PathBuf| {
        fs::read_link(folder.join("ns/mnt"))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if !has_exited(&own) {
        return own;
    }
    let threads = fs::read_dir(own.join("task")).into_iter().flatten();
    let mut threads = threads.flatten().take(THREADS).map(|thread| thread.path());
    threads.find(|thread| !has_exited(thread)).unwrap_or(own)
}

/// Its effective user.
#[must_use]
pub fn user_of(pid: u32) -> Option<u32> {
    let process = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(process.uid())
}

/// Is it a thread of the kernel's own, which has no user space and opens nothing? Unknown is no.
#[must_use]
pub fn is_kernel_thread(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok();
    let stat = pid.and_then(|pid| Process::new(pid).ok()?.stat().ok());
    stat.is_some_and(|stat| {
        StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD)
    })
}

/// Has it ended, or is its number another process's by now? `started_ns`: when it was started, nanoseconds
/// since boot (`group_leader->start_boottime`); 0 where that is not known. `false` where nothing can be
/// found out.
#[must_use]
pub fn has_ended(pid: u32, started_ns: u64) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if test_kill_process(number) == Err(Errno::SRCH) {
        return true;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok();
    let stat = stat.as_deref().and_then(Stat::parse);
    stat.is_some_and(|stat| stat.is_of_another_or_dead(started_ns))
}

/// What `/proc/PID/stat` says of a process's life (`do_task_stat`, fs/proc/array.c).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    threads: u64,
    /// Hundredths of a second since boot.
    started: u64,
}

impl Stat {
    /// The name, which may hold anything, ends with the last parenthesis.
    fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        // Fields 3, 20 and 22 of proc_pid_stat(5).
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let threads = fields.nth(16)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        Some(Self {
            state,
            threads,
            started,
        })
    }

    fn is_of_another_or_dead(&self, started_ns: u64) -> bool {
        // The leader of a process whose other threads live on is a zombie as well.
        let is_dead = matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1;
        // `nsec_to_clock_t` at USER_HZ, which is 100 everywhere (include/asm-generic/param.h).
        let is_other = started_ns > 0 && (started_ns / 10_000_000).abs_diff(self.started) > 1;
        is_dead || is_other
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn stat(comm: &str, state: char, threads: u32) -> Vec<u8> {
        let zeroes = ["0"; 16].join(" ");
        format!("7 ({comm}) {state} {zeroes} {threads} 0 4200 1 2 3\n").into_bytes()
    }

    #[test]
    fn a_process_is_alive_while_a_thread_is_and_no_other_has_its_number() {
        let cases = [
            (stat("sh", 'S', 1), 42_005_000_000, false),
            (stat("sh", 'S', 1), 0, false),
            (stat("sh", 'S', 1), 43_000_000_000, true),
            (stat("a) Z 1 (", 'R', 1), 42_000_000_000, false),
            (stat("sh", 'Z', 1), 42_000_000_000, true),
            (stat("sh", 'Z', 3), 42_000_000_000, false),
        ];
        for (stat, started_ns, wanted) in cases {
            let parsed = Stat::parse(&stat).unwrap();
            let has_ended = parsed.is_of_another_or_dead(started_ns);
            assert_eq!(has_ended, wanted, "{parsed:?} {started_ns}");
        }
        for damaged in [&b""[..], b"7 (sh", b"7 (sh) S 1 2", b"7 (sh) \xff"] {
            assert_eq!(Stat::parse(damaged), None);
        }
    }

    #[test]
    fn a_process_is_in_its_own_folder() {
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert_eq!(folder(std::process::id()), own);
        // Beyond the largest pid_max.
        assert_eq!(folder(1 << 23), PathBuf::from("/proc/8388608"));
    }

    #[test]
    fn a_child_has_ended_before_anybody_waits_for_it() {
        assert!(!has_ended(std::process::id(), 0));
        assert!(has_ended(std::process::id(), 10_000_000), "started at boot");
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(!has_ended(child.id(), 0));
        // A zombie from here on; then its number is nobody's.
        let pid = Pid::from_child(&child);
        drop(child.stdin.take());
        let wait = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), wait).unwrap();
        assert!(has_ended(child.id(), 0));
        child.wait().unwrap();
        assert!(has_ended(child.id(), 0));
    }
}
