//! Failing again and again.

use std::{
    io,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::Scenario;
use crate::{
    report::Facts,
    run::{Run, must_fail},
    sys::fds,
};

/// The family.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "storm",
        "dup fails --count times, in --threads threads",
        storm,
    ),
    Scenario::new(
        "storm_mixed",
        "dup and openat fail --count times, in turn",
        storm_mixed,
    ),
    Scenario::new(
        "forks_at_once",
        "64 threads at once in fcntl, all of which wait for the table to grow; none fails",
        crowd,
    )
    .at(4096),
    Scenario::new(
        "leak",
        "opens a file every 5 ms, then fails every 50 ms",
        leak,
    ),
];

/// Failing calls unless `--count` says otherwise.
const CALLS: u64 = 5_000_000;

/// Each round wants a larger table. The first thread to come makes it, and waits for an RCU grace period because
/// the table is shared; the others wait in `alloc_fd` for the first one (`expand_files` in fs/file.c).
fn crowd(run: &mut Run) -> Result<Facts> {
    const THREADS: usize = 64;
    let sizes = (8..).map(|exponent| 1_i32 << exponent);
    let sizes =
        sizes.take_while(|size| u64::from(size.unsigned_abs()) + THREADS as u64 <= run.soft);
    let sizes: Vec<_> = sizes.collect();
    ensure!(!sizes.is_empty(), "the limit is too low");
    run.gate()?;
    let start = Barrier::new(THREADS);
    let grown = thread::scope(|scope| {
        let grow = || {
            sizes
                .iter()
                .map(|size| {
                    start.wait();
                    fds::f_dupfd(*size)
                })
                .collect::<io::Result<Vec<_>>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(grow)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread has panicked"))?
                    .context("fcntl")
            })
            .collect::<Result<Vec<_>>>()
    })?;
    run.held.extend(grown.into_iter().flatten());
    run.facts("fcntl", 0, None)
}

/// How many of `count` calls the thread `index` of `threads` makes: all of them add up.
fn share(count: u64, threads: u64, index: u64) -> u64 {
    count / threads + u64::from(index < count % threads)
}

/// All threads work on one table, which is full.
fn storm(run: &mut Run) -> Result<Facts> {
    let (count, threads) = (run.options.count.unwrap_or(CALLS), run.options.threads);
    run.fill_but(0)?;
    run.gate()?;
    let failures: u64 = if threads == 1 {
        fail(count)
    } else {
        thread::scope(|scope| {
            let start = |index| scope.spawn(move || fail(share(count, threads, index)));
            // All of them start before the first is waited for.
            let started: Vec<_> = (0..threads).map(start).collect();
            started
                .into_iter()
                .map(|thread| thread.join().unwrap_or(0))
                .sum()
        })
    };
    ensure!(
        failures == count,
        "{failures} of {count} calls failed with EMFILE"
    );
    let mut facts = run.facts("dup", failures, Some(libc::EMFILE))?;
    facts.note = Some(format!("threads {threads}"));
    Ok(facts)
}

/// How many of so many calls failed as they should.
fn fail(count: u64) -> u64 {
    (0..count)
        .map(|_| u64::from(fds::dup_fails_with(libc::EMFILE)))
        .sum()
}

/// An odd count gives the first of the two calls one more.
fn storm_mixed(run: &mut Run) -> Result<Facts> {
    let count = run.options.count.unwrap_or(CALLS);
    run.fill_but(0)?;
    run.gate()?;
    for number in 0..count {
        let (call, result) = if number % 2 == 0 {
            ("dup", fds::dup())
        } else {
            ("openat", fds::openat())
        };
        must_fail(call, result, libc::EMFILE)?;
    }
    let mut facts = run.facts("dup", count, Some(libc::EMFILE))?;
    facts.note = Some(format!("dup {}, openat {}", count.div_ceil(2), count / 2));
    Ok(facts)
}

/// Slow enough to be watched, fast enough for a test; `--wait` is before the first opening.
fn leak(run: &mut Run) -> Result<Facts> {
    run.gate()?;
    while run.used()? < run.soft {
        run.held.push(fds::openat().context("while leaking")?);
        thread::sleep(Duration::from_millis(5));
    }
    let end = Instant::now() + Duration::from_secs(run.options.seconds.unwrap_or(1));
    let mut failures = 0;
    loop {
        must_fail("openat", fds::openat(), libc::EMFILE)?;
        failures += 1;
        if Instant::now() >= end {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    run.facts("openat", failures, Some(libc::EMFILE))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up_to_the_whole() {
        for (count, threads) in [(0, 1), (5, 1), (5, 2), (5, 8), (5_000_000, 7)] {
            let shares: Vec<_> = (0..threads)
                .map(|index| share(count, threads, index))
                .collect();
            assert_eq!(shares.iter().sum::<u64>(), count, "{shares:?}");
        }
    }
}
