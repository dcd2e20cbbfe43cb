//! A test that does not end is told, with what everybody is waiting in: a guest that hangs says nothing else.

use std::{
    fs,
    process::exit,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use super::tables::soak_time;

/// Several times what the longest test takes in a guest; waits inside of tests end after three minutes.
const PATIENCE: Duration = Duration::from_mins(8);

/// Runs the test. If it takes too long, says who waits for what, and ends all tests.
pub(crate) fn watched<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let (running, is_over) = mpsc::channel::<()>();
    let name = name.to_owned();
    let patience = PATIENCE + soak_time().unwrap_or_default() * 2;
    thread::spawn(move || {
        if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            println!("test {name} ... FAILED\n{name} takes longer than {patience:?}:");
            processes().for_each(|process| println!("{process}"));
            exit(101);
        }
    });
    let outcome = test();
    drop(running);
    outcome
}

/// Each thread of this process and those that it has started, and the kernel functions that it is in.
fn processes() -> impl Iterator<Item = String> {
    let own = group("self");
    numbers("/proc")
        .filter(move |pid| group(pid) == own)
        .flat_map(|pid| {
            let task = format!("/proc/{pid}/task");
            let threads = numbers(&task).map(|tid| {
                let comm = read(&format!("{task}/{tid}/comm"));
                let place = read(&format!("{task}/{tid}/wchan"));
                let stack = read(&format!("{task}/{tid}/stack"));
                let stack: Vec<_> = stack.lines().take(6).collect();
                format!("{pid} {tid} {} {place} {}", comm.trim(), stack.join("; "))
            });
            threads.collect::<Vec<_>>()
        })
}

/// Its process group: what a test starts is in that of the test.
fn group(pid: &str) -> Option<String> {
    let stat = read(&format!("/proc/{pid}/stat"));
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    behind_the_name.split_whitespace().nth(2).map(str::to_owned)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn numbers(folder: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
