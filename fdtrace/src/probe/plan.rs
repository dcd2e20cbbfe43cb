//! Which kernel functions fdtrace hooks, as data: name, alternatives, programs, what they prove.
//!
//! Sources of the tables: `fs/file.c`, `fs/file_table.c`, `fs/notify`, `ipc/mqueue.c`, `fs/pipe.c`,
//! `io_uring`, `fs/super.c` and `fs/fuse`, 5.8 to 7.3. Names are looked for, never derived from a
//! version.

use anyhow::Result;
use fdtrace_common::alarm::OWN_LIMITS;

use super::btf::Btf;

/// A place in the kernel that sees something, and the programs that can sit there.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// What is seen there; what is missed where it cannot be attached.
    pub sees: &'static str,
    /// The functions it can be, newest or most telling first; the first that is there is taken.
    pub places: &'static [Place],
    /// What is lost without it.
    pub role: Role,
}

/// One function, and how to sit there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kernel function.
    pub function: &'static str,
    /// The programs for its trampoline, at the function's entry, its exit or both; none where probes will do.
    pub trampolines: &'static [&'static str],
    /// The twins for kernels without trampolines. Hooks can share one.
    pub probes: &'static [&'static str],
    /// It runs with the table's lock held, so that nothing takes its CPU away.
    pub is_locked: bool,
    /// Where its failures alone can be seen.
    pub branch: Option<&'static Branch>,
}

/// The instruction by which a function begins to fail, and the programs that can sit there in place of those at the
/// function's end (`probe::branch`).
#[derive(Debug, PartialEq, Eq)]
pub struct Branch {
    /// The errno that it loads, positive.
    pub errno: i32,
    /// The program for a kprobe on it.
    pub program: &'static str,
    /// The programs where it hands on as its own what a function that it calls has failed with: for that function's
    /// instruction, and for the instructions behind those that it calls itself.
    pub handed_on: Option<[&'static str; 2]>,
}

impl Branch {
    /// All its programs.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.program).chain(self.handed_on.into_iter().flatten())
    }
}

/// No number below the limit; and at `fs.nr_open`, where `expand_files` fails, or `alloc_fdtable` for it.
const NO_NUMBER: Branch = Branch {
    errno: 24,
    program: "alloc_fd_branch",
    handed_on: Some(["expand_branch", "expand_behind"]),
};

/// No file below fs.file-max.
const NO_FILE: Branch = Branch {
    errno: 23,
    program: "alloc_file_branch",
    handed_on: None,
};

impl Hook {
    /// The functions' names, as one reads them.
    #[must_use]
    pub fn functions(&self) -> String {
        let names: Vec<_> = self.places.iter().map(|place| place.function).collect();
        names.join(" or ")
    }

    /// The first of its functions that this kernel has.
    pub fn place(&self, btf: &Btf) -> Result<Option<&'static Place>> {
        for place in self.places {
            if btf.function(place.function)?.is_some() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Are there programs for the branch by which one of its functions fails?
    #[must_use]
    pub fn has_branch(&self) -> bool {
        self.places.iter().any(|place| place.branch.is_some())
    }

    /// Does it tell of tables as well as of failures?
    #[must_use]
    pub fn follows_tables(&self) -> bool {
        self.places.iter().any(|place| place.function == "dup_fd")
    }
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
    /// It tells what a remedy would do: its lack is told at every start.
    Remedy,
    /// What it sees, newer kernels do through a function that has a hook of its own.
    OlderKernels,
}

const fn place(
    function: &'static str,
    trampolines: &'static [&'static str],
    probes: &'static [&'static str],
) -> Place {
    Place {
        function,
        trampolines,
        probes,
        is_locked: false,
        branch: None,
    }
}

/// The same, for a function of which the failures alone can be seen.
const fn branching(place: Place, branch: &'static Branch) -> Place {
    Place {
        branch: Some(branch),
        ..place
    }
}

/// The same, where the table's lock is held.
const fn locked(
    function: &'static str,
    trampolines: &'static [&'static str],
    probes: &'static [&'static str],
) -> Place {
    Place {
        function,
        trampolines,
        probes,
        is_locked: true,
        branch: None,
    }
}

/// A function that is called rarely: it has probes on all backends. All of them leave it to one program to raise
/// an alarm ([`RAISE`]), where on trampolines each has to, and to verify another one takes some 45 ms (6.1).
const fn rare(function: &'static str, probes: &'static [&'static str]) -> Place {
    Place {
        function,
        trampolines: &[],
        probes,
        is_locked: false,
        branch: None,
    }
}

/// The program that raises alarms for all probes, and the map in which they find it.
pub const RAISE: (&str, &str) = ("raise_return", "RAISE");

/// The hooks of the fentry and kprobe backends that see fds run out.
pub const HOOKS: &[Hook] = &[
    Hook {
        sees: "EMFILE of every call that asks for a number",
        places: &[
            branching(
                place("__alloc_fd", &["old_alloc_fd_exit"], &["alloc_fd_return"]),
                &NO_NUMBER,
            ),
            branching(
                place("alloc_fd", &["alloc_fd_exit"], &["alloc_fd_return"]),
                &NO_NUMBER,
            ),
        ],
        role: Role::Required,
    },
    Hook {
        sees: "fork, unshare and exec: the table they copy, and EMFILE",
        places: &[place(
            "dup_fd",
            &["dup_fd_exit"],
            &["dup_fd_entry", "dup_fd_return"],
        )],
        role: Role::Exhaustion,
    },
    Hook {
        sees: "ENFILE by fs.file-max",
        places: &[branching(
            place(
                "alloc_empty_file",
                &["alloc_file_exit"],
                &["alloc_file_return"],
            ),
            &NO_FILE,
        )],
        role: Role::Exhaustion,
    },
    Hook {
        sees: "dup2 and dup3 above the limit (EBADF)",
        places: &[rare("ksys_dup3", &["dup3_return"])],
        role: Role::Exhaustion,
    },
    Hook {
        sees: "seccomp supervisors that put a file above the limit (EBADF)",
        places: &[
            rare("receive_fd_replace", &["replace_fd_return"]),
            rare("replace_fd", &["replace_fd_return"]),
        ],
        role: Role::Exhaustion,
    },
    Hook {
        sees: "ENFILE of unix sockets, at twice fs.file-max",
        places: &[rare("unix_create1", &["unix_socket_return"])],
        role: Role::Exhaustion,
    },
    Hook {
        sees: "inotify instances",
        places: &[rare("do_inotify_init", &["own_limit_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "fanotify groups",
        places: &[
            rare("__x64_sys_fanotify_init", &["own_limit_return"]),
            rare("__arm64_sys_fanotify_init", &["own_limit_return"]),
        ],
        role: Role::FalseLead,
    },
    Hook {
        sees: "bytes of message queues",
        places: &[rare("do_mq_open", &["own_limit_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "io_uring's registered files",
        places: &[
            rare("__x64_sys_io_uring_register", &["own_limit_return"]),
            rare("__arm64_sys_io_uring_register", &["own_limit_return"]),
        ],
        role: Role::FalseLead,
    },
    Hook {
        sees: "ENFILE of a full table of io_uring's registered files",
        places: &[rare("io_fixed_fd_install", &["ring_file_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "ENFILE of a file passed to a ring whose table is full",
        places: &[rare("__io_fixed_fd_install", &["ring_place_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "pages of pipes",
        places: &[rare("do_pipe2", &["own_limit_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "numbers for file systems without a device",
        places: &[rare("get_anon_bdev", &["own_limit_return"])],
        role: Role::FalseLead,
    },
    // Files and directories meet here. Of the functions around it, compilers have `fuse_do_open` twice:
    // as called for directories, and inlined in `fuse_open`.
    Hook {
        sees: "EMFILE of a FUSE server that opens",
        places: &[rare("fuse_file_open", &["fuse_open_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "EMFILE of a FUSE server that looks up or creates for open",
        places: &[rare("fuse_atomic_open", &["fuse_create_return"])],
        role: Role::FalseLead,
    },
    Hook {
        sees: "select(2), whose callers do not survive fds above 1023",
        places: &[place(
            "core_sys_select",
            &["select_entry"],
            &["select_probe"],
        )],
        role: Role::Remedy,
    },
    // Not built in where there are no 32-bit programs.
    Hook {
        sees: "select(2) of 32-bit programs",
        places: &[place(
            "compat_core_sys_select",
            &["compat_select_entry"],
            &["compat_select_probe"],
        )],
        role: Role::FalseLead,
    },
];

/// The hooks through which every file comes into a slot, and leaves it.
///
/// Why the order of their records is the order of changes, in each slot (fs/file.c, 5.8 to 7.3):
///
/// * A file is installed after its number was taken under the table's lock, and the record is written
///   before the file is in the slot (`fd_install`).
/// * It is replaced, and from 6.8 on removed, with the lock held, and the record is written then
///   (`do_dup2`, `file_close_fd_locked`). Both need a file in the slot, so they come after the record of
///   its installing; the next installing needs the lock to get the number, so it comes after theirs.
/// * A number that is taken and has no file yet gets one without the lock. Whether `do_dup2` has met it
///   before or after is known at its end, when the lock is free: such a record can come after that of the
///   closing of its own file. The model keeps an early closing until then.
/// * Before 6.8, the function that empties a slot may give the lock up before its end (`pick_file`): then
///   the next file's record can come first. The model keeps both until the first one's closing is told.
///
/// `close_fd` is no hook: from 6.6 on close(2) does not call it.
pub const TABLE_HOOKS: &[Hook] = &[
    Hook {
        sees: "every file that comes into a free slot",
        places: &[
            // Before 5.11 `fd_install` is inlined into its callers in fs/file.c.
            place("__fd_install", &["install_entry"], &["install_probe"]),
            place("fd_install", &["install_entry"], &["install_probe"]),
        ],
        role: Role::Required,
    },
    Hook {
        sees: "dup2 and whoever else replaces a file",
        places: &[place(
            "do_dup2",
            &["replace_entry", "replace_exit"],
            &["replace_probe", "replace_return"],
        )],
        role: Role::Required,
    },
    Hook {
        sees: "every file that leaves its slot",
        places: &[
            locked(
                "file_close_fd_locked",
                &["pick_file_exit"],
                &["pick_file_probe", "pick_file_return"],
            ),
            place(
                "pick_file",
                &["pick_file_exit"],
                &["pick_file_probe", "pick_file_return"],
            ),
        ],
        role: Role::Required,
    },
    // Until 5.18 it empties the slot itself, until 6.7 it calls `pick_file`. Nothing tells which.
    Hook {
        sees: "io_uring and binder closing an fd",
        places: &[place(
            "__close_fd_get_file",
            &["close_get_file_exit"],
            &["close_get_file_probe", "close_get_file_return"],
        )],
        role: Role::OlderKernels,
    },
    Hook {
        sees: "threads and processes that are made",
        places: &[place(
            "wake_up_new_task",
            &["new_thread_entry"],
            &["new_thread_probe"],
        )],
        role: Role::Required,
    },
    Hook {
        sees: "threads that give their table up",
        places: &[place("exit_files", &["exit_entry"], &["exit_probe"])],
        role: Role::Required,
    },
    Hook {
        sees: "what exec leaves open",
        places: &[place("setup_new_exec", &["exec_entry"], &["exec_probe"])],
        role: Role::Required,
    },
    Hook {
        sees: "new names of threads",
        places: &[place(
            "__set_task_comm",
            &["rename_entry"],
            &["rename_probe"],
        )],
        role: Role::Exhaustion,
    },
];

/// The hooks that leave in the slots when and by whom a file came into a table (`slots` in the kernel programs).
///
/// None of them has to see everything: what it misses makes an age unknown. So a file that leaves is seen at the
/// beginning of the function that removes it, which is cheaper than at its end, and whether there was one is not asked.
pub const SLOT_HOOKS: &[Hook] = &[
    Hook {
        sees: "since when each fd is open, and by whom",
        places: &[
            // Before 5.11 `fd_install` is inlined into its callers in fs/file.c.
            place("__fd_install", &["slots_install"], &["slots_install_probe"]),
            place("fd_install", &["slots_install"], &["slots_install_probe"]),
        ],
        role: Role::Required,
    },
    Hook {
        sees: "the same of dup2 and whoever else replaces a file",
        places: &[locked(
            "do_dup2",
            &["slots_replace"],
            &["slots_replace_probe"],
        )],
        role: Role::Required,
    },
    Hook {
        sees: "which fds are closed",
        places: &[
            locked(
                "file_close_fd_locked",
                &["slots_close"],
                &["slots_close_probe"],
            ),
            place("pick_file", &["slots_close"], &["slots_close_probe"]),
        ],
        role: Role::Required,
    },
    Hook {
        sees: "which fds io_uring and binder close",
        places: &[place(
            "__close_fd_get_file",
            &["slots_close_current"],
            &["slots_close_current_probe"],
        )],
        role: Role::OlderKernels,
    },
    Hook {
        sees: "since when inherited fds are open",
        places: &[place("dup_fd", &["slots_copy"], &["slots_copy_return"])],
        role: Role::Required,
    },
    Hook {
        sees: "tables that end",
        places: &[place("exit_files", &["slots_end"], &["slots_end_probe"])],
        role: Role::Required,
    },
];

/// What a program is attached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Tables are followed through it.
    Tables,
    /// It leaves in slots when and by whom files were opened.
    Slots,
    /// All else.
    Others,
}

/// What the program of this name is attached for.
#[must_use]
pub fn purpose(program: &str) -> Purpose {
    let is_of = |hook: &Hook| {
        let places = hook.places.iter();
        let mut names = places.flat_map(|place| place.probes.iter().chain(place.trampolines));
        names.any(|name| *name == program)
    };
    let mut of_tables = HOOKS
        .iter()
        .filter(|hook| hook.follows_tables())
        .chain(TABLE_HOOKS);
    if of_tables.any(is_of) {
        Purpose::Tables
    } else if SLOT_HOOKS.iter().any(is_of) {
        Purpose::Slots
    } else {
        Purpose::Others
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

/// The calls that are select: native ones, and those of 32-bit programs. Not those programs' oldest one, which takes
/// its arguments through a pointer.
pub const SELECT_CALLS: ([&str; 2], [&str; 3]) = (
    ["select", "pselect6"],
    ["_newselect", "pselect6", "pselect6_time64"],
);

/// The census backend's alarm.
pub const SYS_EXIT: &str = "sys_exit";

/// What the census backend cannot see, in words for the banner and `doctor`.
pub const CENSUS_MISSES: &[&str] = &[
    "files lost from SCM_RIGHTS messages (MSG_CTRUNC)",
    "io_uring completions with EMFILE or ENFILE",
    "binder transactions that fail for want of an fd",
    "files that a seccomp supervisor fails to put into a process (SECCOMP_IOCTL_NOTIF_ADDFD)",
    "which line of code receives an fd in a message (--stacks)",
    "select(2) of programs that never wait in it when their table is looked at",
];

/// Iterators that a run loads at most: tasks, threads and slots (`census`, `tables`, `joined`), and files for a
/// snapshot (`files`), one at a time.
pub const ITERATORS: usize = 5;

/// Programs that keep the set of followed processes, with the tracepoint each sits on.
pub const FOLLOW_TRACEPOINTS: [(&str, &str); 2] = [
    ("follow_newtask", "task_newtask"),
    ("follow_exit", "sched_process_exit"),
];

/// Programs that keep the set of watched cgroups, with the tracepoint each sits on.
pub const CGROUP_TRACEPOINTS: [(&str, &str); 2] = [
    ("cgroup_made", "cgroup_mkdir"),
    ("cgroup_removed", "cgroup_rmdir"),
];

/// Does the function that installs a file take the table as its first argument?
///
/// `__fd_install(files, fd, file)` until 5.10, `fd_install(fd, file)` since.
pub fn install_has_files(btf: &Btf) -> Result<bool> {
    Ok(btf.function("__fd_install")?.is_some())
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

    fn all() -> impl Iterator<Item = &'static Hook> {
        HOOKS.iter().chain(TABLE_HOOKS).chain(SLOT_HOOKS)
    }

    #[test]
    fn each_program_belongs_to_one_hook_or_to_rare_ones() {
        let mut names: Vec<&str> = Vec::new();
        for hook in all() {
            let places = hook.places.iter();
            let places = places.filter(|place| !place.trampolines.is_empty());
            let programs = places.flat_map(|place| place.probes.iter().chain(place.trampolines));
            let mut programs: Vec<_> = programs.collect();
            programs.sort_unstable();
            programs.dedup();
            names.extend(programs);
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        let rare = all().flat_map(|hook| hook.places);
        let mut rare = rare.filter(|place| place.trampolines.is_empty());
        assert!(rare.all(|place| place.probes.iter().all(|name| !names.contains(name))));
    }

    #[test]
    fn only_false_leads_and_old_functions_may_be_missed_in_silence() {
        let functions = |role: Role| {
            let hooks = all().filter(move |hook| hook.role == role);
            let places = hooks.flat_map(|hook| hook.places);
            places.map(|place| place.function).collect::<Vec<_>>()
        };
        assert_eq!(
            functions(Role::Required),
            [
                "__alloc_fd",
                "alloc_fd",
                "__fd_install",
                "fd_install",
                "do_dup2",
                "file_close_fd_locked",
                "pick_file",
                "wake_up_new_task",
                "exit_files",
                "setup_new_exec",
                "__fd_install",
                "fd_install",
                "do_dup2",
                "file_close_fd_locked",
                "pick_file",
                "dup_fd",
                "exit_files",
            ]
        );
        assert_eq!(
            functions(Role::Exhaustion),
            [
                "dup_fd",
                "alloc_empty_file",
                "ksys_dup3",
                "receive_fd_replace",
                "replace_fd",
                "unix_create1",
                "__set_task_comm"
            ]
        );
        assert_eq!(functions(Role::Remedy), ["core_sys_select"]);
        assert_eq!(functions(Role::OlderKernels), ["__close_fd_get_file"; 2]);
    }

    #[test]
    fn every_call_with_its_own_limit_has_a_hook() {
        for call in OWN_LIMIT_CALLS {
            // pipe2 and inotify_init1 share a function with their elders.
            let name = call.trim_end_matches(['1', '2']);
            let is_hooked = |hook: &Hook| hook.functions().contains(name);
            assert!(HOOKS.iter().any(is_hooked), "{call}");
        }
    }
}
