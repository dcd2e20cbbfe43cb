//! Where hooks sit, and that nobody keeps them from being entered.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use fdtrace::probe::{attach::attach, maps, misses::Misses, scope::Scope};
use fdtrace_common::alarm::{StormCell, StormKey};
use rustix::{
    event::{EventfdFlags, eventfd},
    thread::{CpuSet, sched_setaffinity},
};
use zerocopy::FromZeros as _;

use super::options;
use crate::{Setting, ensure};

/// Where a kernel's `alloc_fd` and `alloc_empty_file` have a branch that only failing calls take, they are watched there by
/// both backends; else it is said why not.
pub(super) fn sit_on_branches(setting: &Setting) -> Result<(), String> {
    let attached = attach(&options(setting, true), &Scope::default());
    let (session, _ring) = attached.map_err(|error| format!("{error:#}"))?;
    // That kernel's compiler has made two of `expand_files`' one, and of `alloc_empty_file`'s.
    let release = rustix::system::uname();
    let is_old = release.release().to_bytes().starts_with(b"5.10.");
    let begins = if is_old {
        "its end: "
    } else {
        "its failing branch, at +0x"
    };
    for function in ["alloc_fd", "alloc_empty_file"] {
        let mut hooks = session.coverage.hooks.iter();
        let hook = hooks.find(|hook| hook.function.trim_start_matches('_') == function);
        let place = hook.and_then(|hook| hook.place.as_deref());
        println!("{function} at {}", place.unwrap_or_default());
        ensure(place.is_some_and(|place| place.starts_with(begins)), || {
            format!("{function}: {place:?}")
        })?;
    }
    Ok(())
}

/// Reading what hooks have counted keeps none of them from being entered, even where the kernel preempts the reader: one
/// CPU, on which somebody opens and closes without end while the map is read without end. By bpf(2) itself it does, which
/// is shown beside it: on 7.2, one call in eleven.
pub(super) fn asking_keeps_nobody_off(setting: &Setting) -> Result<(), String> {
    // The threads of this one stay on one CPU.
    let asked = thread::scope(|scope| scope.spawn(|| ask_on_one_cpu(setting)).join());
    let by_program = match asked {
        Ok(asked) => asked.map_err(|error| format!("{error:#}"))?,
        Err(_) => return Err("a panic".to_owned()),
    };
    ensure(by_program.skipped == 0, || by_program.to_string())
}

/// What has come of asking.
struct Asked {
    times: u64,
    calls: u64,
    skipped: u64,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            times,
            calls,
            skipped,
        } = self;
        write!(
            f,
            "asked {times} times, {skipped} of {calls} calls were skipped"
        )
    }
}

fn ask_on_one_cpu(setting: &Setting) -> anyhow::Result<Asked> {
    let (session, _ring) = attach(&options(setting, true), &Scope::default())?;
    let mut cpus = CpuSet::new();
    cpus.set(0);
    sched_setaffinity(None, &cpus)?;
    let misses = Misses::of(&session.ebpf);
    let key = StormKey::new_zeroed();
    let map = session.ebpf.map("STORMS").context("no map")?;
    let map: HashMap<&MapData, StormKey, StormCell> = HashMap::try_from(map)?;
    let by_call = ask(&misses, &|| {
        anyhow::ensure!(map.get(&key, 0).is_err(), "nobody has failed");
        Ok(())
    })?;
    println!("by bpf(2): {by_call}");
    let by_program = ask(&misses, &|| {
        let failures = maps::storm(&session.ebpf, &key, 1)?;
        anyhow::ensure!(failures.is_empty(), "nobody has failed");
        Ok(())
    })?;
    println!("by a program: {by_program}");
    Ok(by_program)
}

/// Asks for a while, beside a thread that opens and closes.
fn ask(misses: &Misses, question: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<Asked> {
    const TIME: Duration = Duration::from_secs(3);
    let skipped = || {
        let skipped = misses.count();
        skipped.of_slots + skipped.others
    };
    let before = skipped();
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let mut calls = 0;
            while !ends.load(Ordering::Relaxed) {
                drop(eventfd(0, EventfdFlags::CLOEXEC));
                calls += 1;
            }
            calls
        });
        let (start, mut times) = (Instant::now(), 0);
        let mut outcome = Ok(());
        while outcome.is_ok() && start.elapsed() < TIME {
            outcome = question();
            times += 1;
        }
        ends.store(true, Ordering::Relaxed);
        let calls = opening.join().unwrap_or_default();
        outcome.map(|()| Asked {
            times,
            calls,
            skipped: skipped() - before,
        })
    })
}
