//! The programs that fdtrace is compared with: where they are, and how a guest gets them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    plan::{Ready, Tracer},
    row::{Measure, not_in_quick},
};
use crate::command;

/// Where packages put programs.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program from a package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// In the table.
    pub(crate) name: &'static str,
    program: &'static str,
    /// Where it comes from.
    package: &'static str,
    arguments: &'static [&'static str],
}

/// One line per opening.
pub(crate) const OPENSNOOP: Peer = libbpf("opensnoop", "opensnoop", &[]);
/// Failures by process.
pub(crate) const SYSCOUNT: Peer =
    libbpf("syscount -e EMFILE -P", "syscount", &["-e", "EMFILE", "-P"]);
/// The least that can be done for each opening.
pub(crate) const BPFTRACE_COUNT: Peer = bpftrace(
    "bpftrace, fd_install counted",
    &["-e", "kprobe:fd_install { @ = count(); }"],
);
/// Failures by process.
pub(crate) const BPFTRACE_EMFILE: Peer = bpftrace(
    "bpftrace, sys_exit with EMFILE",
    &[
        "-e",
        "tracepoint:raw_syscalls:sys_exit /args->ret == -24/ { @[comm] = count(); }",
    ],
);
/// What is open, as far as these three calls open and close it.
pub(crate) const BPFTRACE_MAP: Peer = bpftrace(
    "bpftrace, map of open fds",
    &[
        "-e",
        "tracepoint:syscalls:sys_exit_openat /args->ret >= 0/ { @[pid, args->ret] = nsecs; } \
         tracepoint:syscalls:sys_exit_dup /args->ret >= 0/ { @[pid, args->ret] = nsecs; } \
         tracepoint:syscalls:sys_enter_close { delete(@[pid, args->fd]); }",
    ],
);
/// The same for a server.
pub(crate) const BPFTRACE_ACCEPT: Peer = bpftrace(
    "bpftrace, map of open fds",
    &[
        "-e",
        "tracepoint:syscalls:sys_exit_accept4 /args->ret >= 0/ { @[pid, args->ret] = nsecs; } \
         tracepoint:syscalls:sys_enter_close { delete(@[pid, args->fd]); }",
    ],
);
/// What one types to see who opens.
pub(crate) const BPFTRACE_ONE_LINER: Peer = bpftrace(
    "bpftrace, a one-liner",
    &["-e", "kprobe:fd_install { @[comm] = count(); }"],
);
/// Every accept and close of a server, by ptrace.
pub(crate) const STRACE: Peer = Peer {
    name: "strace -f",
    program: "strace",
    package: "strace",
    arguments: &["-f", "-e", "trace=accept4,close", "-o", "/dev/null"],
};

const fn bpftrace(name: &'static str, arguments: &'static [&'static str]) -> Peer {
    Peer {
        name,
        program: "bpftrace",
        package: "bpftrace",
        arguments,
    }
}

const fn libbpf(
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
) -> Peer {
    Peer {
        name,
        program,
        package: "libbpf-tools",
        arguments,
    }
}

impl Peer {
    /// Does it compile its programs when it starts? That takes a minute in an emulated machine.
    fn is_slow(self) -> bool {
        self.program == "bpftrace"
    }

    /// Where it is, or what to write in its place.
    pub(crate) fn find(self, quick: bool) -> Result<PathBuf, Measure> {
        if quick && self.is_slow() {
            return Err(not_in_quick());
        }
        find(self.program, self.package)
    }

    /// As the meter starts it, beside the loads or around them.
    pub(crate) fn tracer(self, program: &Path, ready: Ready, loads: &[&str]) -> Tracer {
        let mut command = vec![program.display().to_string()];
        command.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
        Tracer {
            name: self.name.to_owned(),
            command,
            ready,
            loads: loads.iter().map(|load| (*load).to_owned()).collect(),
        }
    }
}

/// Where a package's program is, or what to write in its place.
pub(crate) fn find(program: &str, package: &str) -> Result<PathBuf, Measure> {
    let places = FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    places
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| {
            Measure::NotAvailable(format!("no {program}, which is in the package {package}"))
        })
}

/// A program with every library that it is linked with, each at its place in the guest.
pub(crate) fn with_libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut linked = Command::new("ldd");
    let linked = command::output(linked.arg(program))
        .with_context(|| format!("cannot tell the libraries of {}", program.display()))?;
    let mut files = libraries(&linked);
    files.insert(program.to_owned());
    Ok(files)
}

/// The paths in what ldd prints: behind an arrow, or alone, always before the address.
fn libraries(linked: &str) -> BTreeSet<PathBuf> {
    let lines = linked
        .lines()
        .filter_map(|line| line.trim().rsplit_once(" ("));
    let paths = lines.map(|(line, _)| line.rsplit("=> ").next().unwrap_or(line));
    paths
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The version of a package, as installed.
pub(crate) fn version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${Version}", package]);
    command::output(&mut query)
        .ok()
        .filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_both_forms() {
        let linked = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                      \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f3c)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f3d)\n\
                      \tstatically linked\n";
        let paths: Vec<_> = libraries(linked).into_iter().collect();
        assert_eq!(
            paths,
            [
                Path::new("/lib/x86_64-linux-gnu/libelf.so.1"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_program_that_is_not_there_has_its_package_named() {
        let Err(Measure::NotAvailable(reason)) = find("no-such-program", "its-package") else {
            panic!("there is such a program");
        };
        assert!(reason.contains("its-package"), "{reason}");
    }
}
