//! What a shell offers for process numbers, names, units and cgroups: those that there are now.
//!
//! Runs as whoever presses the key, and prints one line each: names that a process has chosen are shown without
//! what could control a terminal.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use clap_complete::CompletionCandidate;

use crate::{probe::cgroup, report::sanitize::printable};

/// More than anybody reads.
const MOST: usize = 2_000;

/// Cgroups below cgroups: deeper than units of users and pods are.
const DEEPEST: usize = 8;

/// Process numbers, with the name of each.
#[must_use]
pub fn pids(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    // Of a list with commas, the last one is being typed.
    let (before, number) = typed
        .rsplit_once(',')
        .map_or(("", &*typed), |(before, last)| {
            (&typed[..=before.len()], last)
        });
    processes()
        .filter(|pid| pid.starts_with(number))
        .map(|pid| {
            let name = name(&pid).unwrap_or_default();
            CompletionCandidate::new(format!("{before}{pid}")).help(Some(name.into()))
        })
        .take(MOST)
        .collect()
}

/// Names of processes, each once.
#[must_use]
pub fn comms(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let mut names: Vec<_> = processes().filter_map(|pid| name(&pid)).collect();
    names.retain(|name| name.starts_with(&*typed));
    names.sort_unstable();
    names.dedup();
    names.truncate(MOST);
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Units of systemd that have a cgroup, so a process.
#[must_use]
pub fn units(typed: &OsStr) -> Vec<CompletionCandidate> {
    const UNITS: [&str; 2] = [".service", ".scope"];
    let typed = typed.to_string_lossy();
    let mut names: Vec<_> = groups()
        .into_iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| UNITS.iter().any(|kind| name.ends_with(kind)) && name.starts_with(&*typed))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Cgroups, by their path below the mount.
#[must_use]
pub fn cgroups(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let paths = groups().into_iter();
    let paths = paths.filter_map(|path| path.to_str().map(str::to_owned));
    paths
        .filter(|path| !path.contains(char::is_control))
        .filter(|path| path.starts_with(&*typed))
        .map(CompletionCandidate::new)
        .collect()
}

fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn name(pid: &str) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(printable(name.trim_ascii_end()))
}

/// Below the mount of cgroup v2; the first ones, level by level.
fn groups() -> Vec<PathBuf> {
    let Some(root) = cgroup::mount_point() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut level = vec![PathBuf::new()];
    for _ in 0..DEEPEST {
        let below: Vec<_> = level
            .iter()
            .flat_map(|path| children(&root, path))
            .collect();
        found.extend(below.iter().cloned());
        level = below;
        if level.is_empty() || found.len() >= MOST {
            break;
        }
    }
    found.truncate(MOST);
    found
}

fn children(root: &Path, path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(path))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| path.join(entry.file_name()))
        .take(MOST)
        .collect()
}
