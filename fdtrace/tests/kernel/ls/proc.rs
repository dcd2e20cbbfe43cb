//! `fdtrace ls` against /proc: number by number, target by target, flag by flag, for every process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
};

use serde_json::Value;

use super::{ensure, gym, objects, said};

/// A process, the thread whose table it is, and the number in it.
type Place = (u64, u64, u64);

/// Target, mode, and whether exec closes it.
type Known = (String, String, bool);
type Look = BTreeMap<Place, Known>;

/// A look at /proc between two of ls. Only what ls shows alike twice is compared, and only what
/// differs each time counts: an fd may be closed just while /proc is read.
pub(super) fn agrees() -> Result<(), String> {
    let mut holder = gym::command("hold");
    holder.args(["--wait", "--count", "200", "--limit", "256"]);
    let (mut holder, pid) = gym::Gym::start_waiting(holder)?;
    holder.release()?;
    holder.held()?;
    let mut lasting: Option<BTreeMap<Place, String>> = None;
    for _ in 0..3 {
        let (mut differences, compared) = compare(pid.into())?;
        ensure(compared >= 200, || format!("only {compared} fds"))?;
        if let Some(before) = &lasting {
            differences.retain(|place, _| before.contains_key(place));
        }
        if differences.is_empty() {
            return holder.end();
        }
        lasting = Some(differences);
    }
    Err(format!("{lasting:#?}"))
}

/// The differences, and how many fds of `held` were the same.
fn compare(held: u64) -> Result<(BTreeMap<Place, String>, usize), String> {
    let first = by_ls(&objects(&[])?)?;
    let (proc, refused) = by_proc(&first)?;
    let last = by_ls(&objects(&[])?)?;
    let mut differences = BTreeMap::new();
    let mut compared = 0;
    for (place, known) in &first {
        if last.get(place) != Some(known) || refused.contains(&place.0) {
            continue;
        }
        if proc.get(place) != Some(known) {
            let said = format!("ls: {known:?}; /proc: {:?}", proc.get(place));
            differences.insert(*place, said);
        } else if place.0 == held {
            compared += 1;
        }
    }
    for (place, known) in &proc {
        let is_listed = first.contains_key(place) || last.contains_key(place);
        if !is_listed && !refused.contains(&place.0) {
            differences.insert(*place, format!("ls: nothing; /proc: {known:?}"));
        }
    }
    Ok((differences, compared))
}

fn by_ls(objects: &[Value]) -> Result<Look, String> {
    let known = |object: &Value| {
        let number = |name: &str| object[name].as_u64();
        let place = (number("pid")?, number("tid")?, number("fd")?);
        let mode = object["mode"].as_str()?.to_owned();
        Some((place, (link(object)?, mode, object["cloexec"].as_bool()?)))
    };
    let each = objects
        .iter()
        .map(|object| known(object).ok_or_else(|| object.to_string()));
    each.collect()
}

/// The target as /proc spells it: a socket is only a number there, and the mark of a deleted file
/// belongs to its name.
fn link(object: &Value) -> Option<String> {
    let target = object["target"].as_str()?;
    Some(match object["kind"].as_str()? {
        "tcp" | "udp" | "unix" | "netlink" | "packet" | "vsock" | "socket" => {
            format!("socket:[{}]", object["inode"])
        }
        _ if object["deleted"] == true => format!("{target} (deleted)"),
        _ => target.to_owned(),
    })
}

/// All fds of all processes, and of the threads that ls has found tables of. Then the processes that
/// a security module guards even from root; it may hide them from iterators, too.
fn by_proc(seen: &Look) -> Result<(Look, BTreeSet<u64>), String> {
    let processes = numbers("/proc").into_iter().map(|pid| (pid, pid));
    let threads = seen.keys().map(|(pid, tid, _)| (*pid, *tid));
    let tables: BTreeSet<(u64, u64)> = processes.chain(threads).collect();
    let mut look = Look::new();
    let mut refused = BTreeSet::new();
    for (pid, tid) in tables {
        let table = format!("/proc/{pid}/task/{tid}");
        for fd in numbers(&format!("{table}/fd")) {
            let link = fs::read_link(format!("{table}/fd/{fd}"));
            if matches!(&link, Err(error) if error.kind() == ErrorKind::PermissionDenied) {
                refused.insert(pid);
            }
            // It may have gone meanwhile.
            let info = fs::read_to_string(format!("{table}/fdinfo/{fd}"));
            if let (Ok(link), Ok(info)) = (link, info) {
                let (mode, cloexec) = flags(&info)?;
                let link = link.to_string_lossy().into_owned();
                look.insert((pid, tid, fd), (link, mode.to_owned(), cloexec));
            }
        }
    }
    Ok((look, refused))
}

/// The entries of a directory that are numbers; none where it has gone.
fn numbers(directory: &str) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The mode, and whether exec closes it, from fdinfo.
fn flags(info: &str) -> Result<(&'static str, bool), String> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap_or("0").trim(), 8).map_err(said)?;
    let mode = match flags & 3 {
        _ if flags & 0o10_000_000 != 0 => "path",
        0 => "r",
        1 => "w",
        _ => "rw",
    };
    Ok((mode, flags & 0o2_000_000 != 0))
}
