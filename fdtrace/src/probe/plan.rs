//! Which kernel functions fdtrace hooks, as data: name, alternatives, programs, what they prove.
//!
//! Sources of the table: `fs/file.c`, `fs/file_table.c`, `fs/notify`, `ipc/mqueue.c`, `fs/pipe.c`,
//! `io_uring`, `fs/super.c` and `fs/fuse`, 5.8 to 7.3. Names are looked for, never derived from a
//! version.

use anyhow::Result;
use fdtrace_common::alarm::OWN_LIMITS;

use super::btf::Btf;

/// A place in the kernel that sees a failure, and the programs that can sit there.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// What is seen there; what is missed where it cannot be attached.
    pub sees: &'static str,
    /// Names of the function, newest or most telling first; the first that is there is taken.
    pub functions: &'static [&'static str],
    /// The program for the function's exit.
    pub fexit: &'static str,
    /// Its twin for kernels without trampolines.
    pub kretprobe: &'static str,
    /// A program for the function's entry that the twin needs where [`dup_fd_has_errorp`] says so.
    pub kprobe: Option<&'static str>,
    /// What is lost without it.
    pub role: Role,
}

/// What a hook is for, and so who is to know where a kernel has none of its functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A backend without this hook is none.
    Required,
    /// It sees fds run out in ways that no other hook sees: its lack is told at every start.
    Exhaustion,
    /// It tells what only looks like that. A kernel without the function is mostly one without the
    /// feature, where nothing is lost: only who asks is told. A function that is there and cannot be
    /// hooked is a gap like any other.
    FalseLead,
}

macro_rules! syscall_functions {
    ($name:literal) => {
        &[concat!("__x64_sys_", $name), concat!("__arm64_sys_", $name)]
    };
}

/// The hooks of the fentry and kprobe backends.
pub const HOOKS: &[Hook] = &[
    Hook {
        sees: "EMFILE of every call that asks for a number",
        functions: &["__alloc_fd", "alloc_fd"],
        fexit: "alloc_fd_exit",
        kretprobe: "alloc_fd_return",
        kprobe: None,
        role: Role::Required,
    },
    Hook {
        sees: "EMFILE of fork, unshare and exec",
        functions: &["dup_fd"],
        fexit: "dup_fd_exit",
        kretprobe: "dup_fd_return",
        kprobe: Some("dup_fd_entry"),
        role: Role::Exhaustion,
    },
    Hook {
        sees: "ENFILE by fs.file-max",
        functions: &["alloc_empty_file"],
        fexit: "alloc_file_exit",
        kretprobe: "alloc_file_return",
        kprobe: None,
        role: Role::Exhaustion,
    },
    Hook {
        sees: "dup2 and dup3 above the limit (EBADF)",
        functions: &["ksys_dup3"],
        fexit: "dup3_exit",
        kretprobe: "dup3_return",
        kprobe: None,
        role: Role::Exhaustion,
    },
    false_lead(
        "inotify instances",
        &["do_inotify_init"],
        "inotify_init_exit",
        "inotify_init_return",
    ),
    false_lead(
        "fanotify groups",
        syscall_functions!("fanotify_init"),
        "fanotify_init_exit",
        "fanotify_init_return",
    ),
    false_lead(
        "bytes of message queues",
        &["do_mq_open"],
        "mq_open_exit",
        "mq_open_return",
    ),
    false_lead(
        "io_uring's registered files",
        syscall_functions!("io_uring_register"),
        "io_uring_register_exit",
        "io_uring_register_return",
    ),
    false_lead("pages of pipes", &["do_pipe2"], "pipe_exit", "pipe_return"),
    false_lead(
        "numbers for file systems without a device",
        &["get_anon_bdev"],
        "anon_bdev_exit",
        "anon_bdev_return",
    ),
    // Files and directories meet here. Of the functions around it, compilers have `fuse_do_open` twice:
    // as called for directories, and inlined in `fuse_open`.
    false_lead(
        "EMFILE of a FUSE server that opens",
        &["fuse_file_open"],
        "fuse_open_exit",
        "fuse_open_return",
    ),
    false_lead(
        "EMFILE of a FUSE server that looks up or creates for open",
        &["fuse_atomic_open"],
        "fuse_create_exit",
        "fuse_create_return",
    ),
];

const fn false_lead(
    sees: &'static str,
    functions: &'static [&'static str],
    fexit: &'static str,
    kretprobe: &'static str,
) -> Hook {
    Hook {
        sees,
        functions,
        fexit,
        kretprobe,
        kprobe: None,
        role: Role::FalseLead,
    }
}

/// The calls that [`HOOKS`] sees from end to end: they fail with EMFILE or ENFILE for reasons of their
/// own as well.
pub const OWN_LIMIT_CALLS: [&str; OWN_LIMITS / 2] = [
    "inotify_init1",
    "inotify_init",
    "fanotify_init",
    "mq_open",
    "io_uring_register",
    "pipe2",
    "pipe",
];

/// The census backend's alarm.
pub const SYS_EXIT: &str = "sys_exit";

/// What the census backend cannot see, in words for the banner and `doctor`.
pub const CENSUS_MISSES: &[&str] = &[
    "files lost from SCM_RIGHTS messages (MSG_CTRUNC)",
    "io_uring completions with EMFILE or ENFILE",
    "binder transactions that fail for want of an fd",
];

/// Programs that keep the set of followed processes, with the tracepoint each sits on.
pub const FOLLOW_TRACEPOINTS: [(&str, &str); 2] = [
    ("follow_newtask", "task_newtask"),
    ("follow_exit", "sched_process_exit"),
];

/// Does the function that hands out numbers take the table as its first argument?
///
/// `__alloc_fd(files, start, end, flags)` until 5.10, `alloc_fd(start, end, flags)` since.
pub fn alloc_fd_has_files(btf: &Btf) -> Result<bool> {
    Ok(btf.function("__alloc_fd")?.is_some())
}

/// Does `dup_fd` store its errno through its last argument, and return NULL?
///
/// `dup_fd(oldf, max_fds, errorp)` in 5.9 to 6.1's first releases, `dup_fd(oldf, punch_hole)` since.
pub fn dup_fd_has_errorp(btf: &Btf) -> Result<bool> {
    let last = btf
        .function("dup_fd")?
        .and_then(|function| function.parameters.last().cloned());
    Ok(last.is_some_and(|parameter| parameter.type_name == "int *"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_named_once() {
        let programs = HOOKS
            .iter()
            .flat_map(|hook| [Some(hook.fexit), Some(hook.kretprobe), hook.kprobe])
            .flatten();
        let mut names: Vec<_> = programs.collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn only_false_leads_may_be_missed_in_silence() {
        let told: Vec<_> = HOOKS
            .iter()
            .filter(|hook| hook.role != Role::FalseLead)
            .flat_map(|hook| hook.functions)
            .collect();
        let exhaustions = [
            "__alloc_fd",
            "alloc_fd",
            "dup_fd",
            "alloc_empty_file",
            "ksys_dup3",
        ];
        assert_eq!(told, exhaustions.iter().collect::<Vec<_>>());
        let required: Vec<_> = HOOKS
            .iter()
            .filter(|hook| hook.role == Role::Required)
            .collect();
        assert!(matches!(required[..], [hook] if hook.fexit == "alloc_fd_exit"));
    }

    #[test]
    fn every_call_with_its_own_limit_has_a_hook() {
        for call in OWN_LIMIT_CALLS {
            // pipe2 and inotify_init1 share a function with their elders.
            let name = call.trim_end_matches(['1', '2']);
            let is_hooked = |function: &&str| function.contains(name);
            assert!(
                HOOKS
                    .iter()
                    .any(|hook| hook.functions.iter().any(is_hooked)),
                "{call}"
            );
        }
    }
}
