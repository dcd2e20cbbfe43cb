//! A stack as people read it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Functions that called each other, the innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stack {
    /// The functions; their text is hostile.
    pub frames: Vec<Frame>,
    /// There are more, which could not be found: the copy of the stack ended, or what it takes to go on
    /// is not in the program.
    pub is_cut: bool,
    /// What an interpreter runs: its first argument that is no option. Hostile.
    pub script: Option<String>,
}

/// One function.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, demangled, where the program has names.
    pub function: Option<String>,
    /// The file that its code is in, as the process calls it.
    pub module: Option<String>,
    /// Where in that file's addresses; in the process's, where it is in none.
    pub address: u64,
    /// The source file, where debug information has it.
    pub file: Option<String>,
    /// The line that called the next inner function.
    pub line: Option<u32>,
    /// The compiler has put it into the next outer one.
    pub is_inlined: bool,
    /// It belongs to a library's way of making a system call: whoever looks for a line of code looks
    /// further out.
    pub is_wrapper: bool,
}

impl Stack {
    /// The innermost function that is none of a library's ways to make a system call.
    #[must_use]
    pub fn caller(&self) -> Option<&Frame> {
        let mut frames = self.frames.iter();
        frames.find(|frame| !frame.is_wrapper)
    }

    /// The functions that say something: from the [`Stack::caller`] on, or all where there is none.
    #[must_use]
    pub fn from_caller(&self) -> &[Frame] {
        let wrappers = self.frames.iter().take_while(|frame| frame.is_wrapper);
        match self.frames.get(wrappers.count()..) {
            Some([]) | None => &self.frames,
            Some(frames) => frames,
        }
    }

    /// The functions that a line of text has room for: the first four of [`Stack::from_caller`].
    #[must_use]
    pub fn shown(&self) -> &[Frame] {
        const SHOWN: usize = 4;
        let frames = self.from_caller();
        &frames[..frames.len().min(SHOWN)]
    }

    /// Says which of the innermost frames are wrappers.
    pub(super) fn mark_wrappers(&mut self) {
        for frame in &mut self.frames {
            frame.is_wrapper = frame.is_of_libc() || frame.is_known_wrapper();
            if !frame.is_wrapper {
                break;
            }
        }
    }
}

/// Functions of C libraries that ask for fds, where they are linked into the program; leading underscores
/// and what versions add to the names left out.
const WRAPPERS: &[&str] = &[
    "IO_file_fopen",
    "IO_file_open",
    "IO_new_file_fopen",
    "accept",
    "accept4",
    "clone",
    "clone3",
    "connect",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "eventfd",
    "fanotify_init",
    "fcntl",
    "fcntl64_nocancel",
    "fdopendir",
    "fopen",
    "fopen64",
    "fopen_internal",
    "fork",
    "inotify_init",
    "inotify_init1",
    "libc_accept",
    "libc_fcntl",
    "libc_fcntl64",
    "libc_open",
    "libc_open64",
    "libc_openat",
    "libc_openat64",
    "libc_recvmsg",
    "memfd_create",
    "mkostemp",
    "mkstemp",
    "new_fopen",
    "open",
    "open64",
    "open64_nocancel",
    "open_nocancel",
    "openat",
    "openat64",
    "openat64_nocancel",
    "openat_nocancel",
    "opendir",
    "opendir_tail",
    "perf_event_open",
    "pidfd_open",
    "pipe",
    "pipe2",
    "recvmsg",
    "signalfd",
    "socket",
    "socketpair",
    "syscall",
    "syscall_cp",
    "timerfd_create",
];

/// How names of functions begin that belong to a language's own library: C++ and Rust; Go.
const LIBRARIES: &[&str] = &[
    "std::",
    "<std::",
    "core::",
    "<core::",
    "alloc::",
    "<alloc::",
    "rustix::",
    "<rustix::",
    "nix::",
    "libc::",
    "internal/",
    "runtime.",
    "runtime/",
    "syscall.",
    "os.",
    "net.",
    "io/",
    "golang.org/x/sys/",
];

impl Frame {
    fn is_of_libc(&self) -> bool {
        let module = self.module.as_deref().unwrap_or_default();
        let name = module.rsplit('/').next().unwrap_or_default();
        [
            "libc.so",
            "libc-2",
            "libpthread",
            "ld-linux",
            "ld-musl",
            "libc.musl",
            "libstdc++",
        ]
        .iter()
        .any(|start| name.starts_with(start))
    }

    fn is_known_wrapper(&self) -> bool {
        let Some(function) = self.function.as_deref() else {
            return false;
        };
        let bare = function.trim_start_matches('_');
        let bare = bare.split('@').next().unwrap_or(bare);
        // Names of C++ templates begin with what they return.
        let head = function.split(['(', '<']).next().unwrap_or_default();
        let name = head.rsplit(' ').next().unwrap_or_default();
        let is_library = |start: &&str| function.starts_with(*start) || name.starts_with(*start);
        WRAPPERS.binary_search(&bare).is_ok() || LIBRARIES.iter().any(is_library)
    }
}

/// `function (file:line)`; `function (module)` without debug information; `module+0xoffset` without names.
impl fmt::Display for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, &self.file, self.line, &self.module) {
            (Some(function), Some(file), Some(line), _) => {
                write!(formatter, "{function} ({file}:{line})")
            }
            (Some(function), Some(file), None, _) => write!(formatter, "{function} ({file})"),
            (Some(function), None, _, Some(module)) => write!(formatter, "{function} ({module})"),
            (Some(function), None, _, None) => formatter.write_str(function),
            (None, _, _, Some(module)) => write!(formatter, "{module}+{:#x}", self.address),
            (None, _, _, None) => write!(formatter, "{:#x}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> Frame {
        Frame {
            function: (!function.is_empty()).then(|| function.to_owned()),
            module: (!module.is_empty()).then(|| module.to_owned()),
            address: 0x1234,
            ..Frame::default()
        }
    }

    #[test]
    fn names_are_in_the_order_that_they_are_searched_by() {
        assert!(WRAPPERS.is_sorted());
    }

    #[test]
    fn the_caller_is_the_first_that_is_no_wrapper() {
        let caller = |frames: &[(&str, &str)]| {
            let frames = frames
                .iter()
                .map(|(function, module)| frame(function, module));
            let mut stack = Stack {
                frames: frames.collect(),
                ..Stack::default()
            };
            stack.mark_wrappers();
            let caller = stack.caller().map(ToString::to_string);
            assert_eq!(
                stack.from_caller().first().map(ToString::to_string),
                caller
                    .clone()
                    .or_else(|| stack.frames.first().map(ToString::to_string))
            );
            caller.unwrap_or_default()
        };
        let libc = "/lib/x86_64-linux-gnu/libc.so.6";
        assert_eq!(
            caller(&[("", libc), ("fopen", libc), ("leak", "/bin/a")]),
            "leak (/bin/a)"
        );
        assert_eq!(
            caller(&[("__libc_open64", "/bin/a"), ("leak", "/bin/a")]),
            "leak (/bin/a)"
        );
        assert_eq!(
            caller(&[("std::fs::File::open", "/bin/a"), ("a::leak", "/bin/a")]),
            "a::leak (/bin/a)"
        );
        assert_eq!(
            caller(&[
                ("syscall.Syscall6", "/bin/go"),
                ("os.Open", "/bin/go"),
                ("main.leak", "/bin/go")
            ]),
            "main.leak (/bin/go)"
        );
        assert_eq!(
            caller(&[
                (
                    "void std::vector<int, std::allocator<int> >::grow(int)",
                    "/bin/a"
                ),
                ("void a::leak<std::string>(std::string const&)", "/bin/a")
            ]),
            "void a::leak<std::string>(std::string const&) (/bin/a)"
        );
        // A function that is called like one of the C library's further out is somebody's own.
        assert_eq!(
            caller(&[("leak", "/bin/a"), ("open", "/bin/a")]),
            "leak (/bin/a)"
        );
        assert_eq!(caller(&[("", libc)]), "");
    }

    #[test]
    fn a_frame_says_what_is_known() {
        let mut known = frame("leak", "/bin/a");
        known.file = Some("/src/a.c".to_owned());
        assert_eq!(known.to_string(), "leak (/src/a.c)");
        known.line = Some(7);
        assert_eq!(known.to_string(), "leak (/src/a.c:7)");
        assert_eq!(frame("", "/bin/a").to_string(), "/bin/a+0x1234");
        assert_eq!(frame("", "").to_string(), "0x1234");
        assert_eq!(frame("leak", "").to_string(), "leak");
    }
}
