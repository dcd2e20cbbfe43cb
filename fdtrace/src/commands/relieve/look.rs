//! Looking at processes for some seconds: which calls fail, and whether they use select(2). With a backend, if one
//! can be had; else by /proc alone, which shows no failures.

use std::{
    collections::HashMap,
    fs, thread,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use log::debug;

use super::facts::{self, Process};
use crate::{
    cli::RunArgs,
    commands::{called::Called, kernel_log_level},
    diagnose::{
        cause::{self, Cause},
        select::Select,
    },
    enrich::{select::AskedSelect, stacks::Stacks},
    ground::call,
    probe::{
        attach::{self, Session},
        census, host, load,
        plan::SELECT_CALLS,
        requirements,
        scope::{Request, Scope},
        shared::{Changes, Openers},
    },
    stream::{decode::Alarm, ring::drain},
};

/// Threads of a process whose calls are looked at.
const THREADS: usize = 32;

/// What is being looked at, and what has been seen.
pub(super) struct Look {
    kernel: Result<Kernel, String>,
    started: Instant,
    /// By process.
    failures: HashMap<u32, Vec<Cause>>,
    /// The largest number of fds in a call of select, by process.
    selects: HashMap<u32, u32>,
    stacks: Stacks,
}

struct Kernel {
    session: Session,
    ring: RingBuf<MapData>,
    called: Called,
    second: u64,
}

impl Look {
    /// Attaches what can be attached.
    pub(super) fn start(pids: &[u32], args: &RunArgs) -> Self {
        let kernel = Kernel::start(pids, args).map_err(|error| format!("{error:#}"));
        if let Err(error) = &kernel {
            debug!("no backend: {error}");
        }
        Self {
            kernel,
            started: Instant::now(),
            failures: HashMap::new(),
            selects: HashMap::new(),
            stacks: Stacks::start(),
        }
    }

    /// How it is done, in words.
    pub(super) fn how(&self, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        match &self.kernel {
            Ok(kernel) => format!("looking for {seconds} s, by {}", kernel.session.backend),
            Err(error) => format!(
                "looking for {seconds} s, by /proc alone, which shows no failures of calls: {error}"
            ),
        }
    }

    /// Are failures of calls seen?
    pub(super) fn sees_failures(&self) -> bool {
        self.kernel.is_ok()
    }

    /// Looks until then, or until all of these have ended.
    pub(super) fn until(&mut self, end: Instant, processes: &[&Process]) {
        loop {
            self.turn();
            let mut left = false;
            for process in processes {
                if !process.has_ended() {
                    left = true;
                    self.look_at_calls(process.pid);
                }
            }
            if !left || Instant::now() >= end {
                return self.turn();
            }
            thread::sleep(facts::PAUSE.min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn turn(&mut self) {
        let Ok(kernel) = &mut self.kernel else { return };
        let second = self.started.elapsed().as_secs();
        if second != kernel.second {
            kernel.second = second;
            // A failure that goes on is told in full once a tick.
            let tick = attach::FIRST_TICK + second;
            kernel
                .session
                .shared
                .arm(tick, Changes::All, Openers::Nobody);
            // With census, that is what notes who is in select.
            if let Err(error) = census::read_again(&mut kernel.session) {
                debug!("looking at all tables: {error:#}");
            }
        }
        let failures = &mut self.failures;
        drain(&mut kernel.ring, |record| {
            if let Ok(alarm) = Alarm::decode(record) {
                let cause = cause::cause(&alarm, host::files);
                let seen = failures.entry(alarm.key.tgid).or_default();
                if !seen.contains(&cause) {
                    seen.push(cause);
                }
            }
        });
    }

    /// Which call the threads of a process are in, as /proc has it.
    fn look_at_calls(&mut self, pid: u32) {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten().take(THREADS) {
            let syscall = fs::read_to_string(thread.path().join("syscall"));
            if let Some(most) = syscall.ok().as_deref().and_then(select_of) {
                let known = self.selects.entry(pid).or_default();
                *known = most.max(*known);
            }
        }
    }

    /// Why calls of a process have failed.
    pub(super) fn failures(&self, pid: u32) -> Vec<Cause> {
        self.failures.get(&pid).cloned().unwrap_or_default()
    }

    /// What has been seen up to now does not count from here on.
    pub(super) fn forget_failures(&mut self) {
        self.turn();
        self.failures.clear();
    }

    /// Do calls of a process fail at its own limit?
    pub(super) fn fails(&self, pid: u32) -> bool {
        let failures = self.failures.get(&pid);
        failures.is_some_and(|causes| causes.contains(&Cause::RlimitNofile))
    }

    /// Does a process use select? `started`: hundredths of a second since boot.
    pub(super) fn select(&mut self, pid: u32, started: u64) -> Option<Select> {
        let seen = self.selects.get(&pid).copied();
        let called = self.kernel.as_ref().ok().and_then(|kernel| {
            // Of another process of that number `of` says nothing: it compares with /proc.
            let most = kernel.called.of(pid, 0)?;
            (facts::started(pid) == Some(started)).then_some(most)
        });
        AskedSelect::ask(pid, called.max(seen), &mut self.stacks).wait()
    }

    /// Has Go's compiler made its program? No, where that cannot be read.
    pub(super) fn is_go(&mut self, pid: u32) -> bool {
        let answer = self.stacks.answer(move |resolver| resolver.is_go(pid));
        answer.wait().flatten().unwrap_or(false)
    }
}

impl Kernel {
    fn start(pids: &[u32], args: &RunArgs) -> anyhow::Result<Self> {
        requirements::check()?;
        let request = Request {
            pids: pids.to_vec(),
            ..Request::default()
        };
        let scope = Scope::new(&request)?;
        let options = load::Options {
            slots: false,
            backend: args.backend.forced(),
            btf: args.btf.as_deref(),
            log_level: kernel_log_level(args),
            alarms: true,
            tables: None,
            stacks: load::Stacks::Never,
            ring_bytes: load::SMALL_RING,
            without_hook: None,
        };
        let (mut session, ring) = attach::attach(&options, &scope)?;
        let called = Called::live(&mut session.ebpf)?;
        Ok(Self {
            session,
            ring,
            called,
            second: 0,
        })
    }
}

/// The number of fds in a call of select, of a line of /proc/PID/syscall: `NUMBER ARGUMENT…`.
fn select_of(line: &str) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace();
    let number: u32 = fields.next()?.parse().ok()?;
    let (calls, _) = SELECT_CALLS;
    if !calls.iter().any(|name| call::number(name) == Some(number)) {
        return None;
    }
    let count = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    u32::try_from(count).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn select_is_recognised_in_proc() {
        let line = |number: &str, count: &str| {
            format!("{number} {count} 0x1 0x0 0x0 0x0 0x0 0x7ffc 0x7f12\n")
        };
        assert_eq!(select_of(&line("23", "0x3c4")), Some(964));
        assert_eq!(select_of(&line("270", "0x400")), Some(1_024));
        assert_eq!(select_of(&line("23", "0x0")), None, "a way to sleep");
        assert_eq!(select_of(&line("7", "0x3c4")), None);
        for other in ["running\n", "-1 0x7ffc 0x7f12\n", "", "23", "23 x", "23 0x"] {
            assert_eq!(select_of(other), None, "{other}");
        }
    }
}
