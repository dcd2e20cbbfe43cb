//! A stack as people read it.

mod libraries;
mod nameless;
mod origin;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::libraries::{BEGINNINGS, GO_PACKAGES, LIBRARIES, RUNTIME_MODULES, RUNTIMES, WRAPPERS};
pub use self::nameless::Runtime;

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
    /// Of whose functions the names are missing, where that runtime could tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nameless: Option<Runtime>,
}

/// One function.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// It is a function of the language that an interpreter runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_interpreted: bool,
}

impl Stack {
    /// The innermost function that somebody has written for this program: none of a library's ways to make a system
    /// call, and none of the language's runtime or standard library, unless there is nothing else. `None` where there
    /// are only ways to make a system call.
    #[must_use]
    pub fn caller(&self) -> Option<&Frame> {
        self.from_caller().first().filter(|frame| !frame.is_wrapper)
    }

    /// The functions that say something: from the [`Stack::caller`] on, or all where there is none.
    #[must_use]
    pub fn from_caller(&self) -> &[Frame] {
        if let Some(caller) = origin::caller(&self.frames) {
            return self.frames.get(caller..).unwrap_or_default();
        }
        let wrappers = self.frames.iter().take_while(|frame| frame.is_wrapper);
        let outside = match self.frames.get(wrappers.count()..) {
            Some([]) | None => return &self.frames,
            Some(frames) => frames,
        };
        let is_go = self.is_go();
        let library = outside
            .iter()
            .take_while(|frame| frame.is_of_runtime(is_go));
        match outside.get(library.count()..) {
            // All of it is the runtime's, as in a goroutine of net/http's own.
            Some([]) | None => outside,
            Some(frames) => frames,
        }
    }

    /// Has nobody written this function for this program? It belongs to a library, the language's own or a package that was
    /// installed.
    #[must_use]
    pub fn is_of_library(&self, frame: &Frame) -> bool {
        if frame.is_interpreted {
            return origin::is_of_library(frame);
        }
        frame.is_wrapper || frame.is_of_runtime(self.is_go())
    }

    /// Has it functions of the language that an interpreter runs?
    #[must_use]
    pub fn is_interpreted(&self) -> bool {
        self.frames.iter().any(|frame| frame.is_interpreted)
    }

    /// Is it of a program in Go? Each of its stacks has functions of these packages.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.frames.iter().any(|frame| {
            let function = frame.function.as_deref().unwrap_or_default();
            let mut packages = ["runtime.", "syscall.", "internal/"].iter();
            packages.any(|package| function.starts_with(package))
        })
    }

    /// The functions that a line of text has room for: the first four of [`Stack::from_caller`]. None where only the
    /// script says anything.
    #[must_use]
    pub fn shown(&self) -> &[Frame] {
        const SHOWN: usize = 4;
        if self.is_of_script_only() {
            return &[];
        }
        let frames = self.from_caller();
        &frames[..frames.len().min(SHOWN)]
    }

    /// Has whoever runs the script left out what its functions are called, and nobody else had a hand in it?
    #[must_use]
    pub fn is_of_script_only(&self) -> bool {
        let says_something =
            |caller: &Frame| caller.function.is_some() && !self.is_of_library(caller);
        self.nameless.is_some()
            && self.script.is_some()
            && !self.caller().is_some_and(says_something)
    }

    /// Says whether functions are missing that the runtime of its process could name.
    pub(super) fn mark_nameless(&mut self, runtime: Option<Runtime>) {
        self.nameless = runtime.filter(|runtime| runtime.has_nameless(&self.frames));
    }

    /// Says which of the innermost frames are wrappers.
    pub(super) fn mark_wrappers(&mut self) {
        for frame in &mut self.frames {
            let is_wrapper = frame.is_of_libc() || frame.is_known_wrapper();
            frame.is_wrapper = is_wrapper && !frame.is_interpreted;
            if !frame.is_wrapper {
                break;
            }
        }
    }
}

impl Frame {
    /// Is it part of a language's runtime or standard library, or the beginning of a thread? What is named like a package
    /// of Go's is one in a program in Go only.
    fn is_of_runtime(&self, is_go: bool) -> bool {
        let module = self.module_name();
        if self.is_of_libc() || RUNTIME_MODULES.contains(&module) {
            return true;
        }
        let Some(function) = self.function.as_deref() else {
            return false;
        };
        let bare = function.trim_start_matches('_');
        // A template's name begins with what it returns.
        let head = function.split(['(', '<']).next().unwrap_or_default();
        let name = head.rsplit(' ').next().unwrap_or_default();
        let is_runtime = |start: &&str| {
            [function, bare, name]
                .iter()
                .any(|it| it.starts_with(*start))
        };
        if RUNTIMES.iter().any(is_runtime) || BEGINNINGS.contains(&bare) || self.is_known_wrapper()
        {
            return true;
        }
        if is_go {
            let package = function.split(['/', '.']).next().unwrap_or_default();
            return GO_PACKAGES.contains(&package);
        }
        // What starts Node is of no more use than what runs in it.
        bare == "main" && (module == "node" || module == "java")
    }

    /// The file's name, without its folder.
    fn module_name(&self) -> &str {
        let module = self.module.as_deref().unwrap_or_default();
        module.rsplit('/').next().unwrap_or_default()
    }

    fn is_of_libc(&self) -> bool {
        let name = self.module_name();
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
    use std::slice::from_ref;

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
    fn the_caller_is_outside_of_the_runtime_and_its_library() {
        let caller = |module: &str, functions: &[&str]| {
            let frames = functions
                .iter()
                .map(|function| match function.split_once('@') {
                    Some((function, module)) => frame(function, module),
                    None => frame(function, module),
                });
            let mut stack = Stack {
                frames: frames.collect(),
                ..Stack::default()
            };
            stack.mark_wrappers();
            let all = stack.frames.len();
            let caller = stack.caller().and_then(|frame| frame.function.clone());
            (caller.unwrap_or_default(), all - stack.from_caller().len())
        };
        let go = |functions: &[&str]| caller("/bin/server", functions).0;
        assert_eq!(
            go(&[
                "syscall.Syscall6",
                "net.socket",
                "net/http.(*Transport).dial",
                "main.(*client).fetch",
                "main.main",
                "runtime.main",
            ]),
            "main.(*client).fetch"
        );
        // In a goroutine of the library's own there is nothing else.
        assert_eq!(
            go(&[
                "syscall.Syscall",
                "net.socket",
                "net/http.(*Transport).dialConn",
                "runtime.goexit"
            ]),
            "net/http.(*Transport).dialConn"
        );
        // In C such names are somebody's own.
        assert_eq!(
            caller("/bin/a", &["open64", "log.part.0", "main"]).0,
            "log.part.0"
        );
        let libc = "start_thread@/lib/libc.so.6";
        let node = ["open64@/lib/libc.so.6", "uv__fs_open", "uv__worker", libc];
        assert_eq!(caller("/usr/bin/node", &node).0, "uv__fs_open");
        let addon = [
            "uv_fs_open",
            "node::fs::Open(v8::Args const&)",
            "addon::Leak()@/a/addon.node",
        ];
        assert_eq!(caller("/usr/bin/node", &addon).0, "addon::Leak()");
        let java = [
            "Java_sun_nio_ch_Net_socket0@/j/libnio.so",
            "sun.nio.ch.Net::socket",
            "com.acme.Pool::get",
        ];
        assert_eq!(caller("", &java).0, "com.acme.Pool::get");
        let rust = [
            "mio::net::tcp::connect",
            "<tokio::net::TcpStream>::connect",
            "web::fetch",
        ];
        assert_eq!(caller("/bin/web", &rust), ("web::fetch".to_owned(), 2));
    }

    /// An address in code that a runtime has made says nothing; what an add-on is called does.
    #[test]
    fn where_a_runtime_names_nothing_the_script_is_all() {
        let libc = frame("open64", "/lib/libc.so.6");
        let entry = frame("Builtins_InterpreterEntryTrampoline", "/usr/bin/node");
        let stack = |frames: &[Frame], nameless| Stack {
            frames: [from_ref(&libc), frames, from_ref(&entry)].concat(),
            script: Some("app.js".to_owned()),
            nameless,
            ..Stack::default()
        };
        let node = Some(Runtime::Node);
        let of_node = stack(&[frame("", ""), frame("", "")], node);
        assert!(of_node.shown().is_empty());
        let addon = frame("addon::Leak()", "/a/addon.node");
        let with_addon = stack(&[addon, frame("", "")], node);
        assert_eq!(
            with_addon.shown()[0].to_string(),
            "addon::Leak() (/a/addon.node)"
        );
        let named = stack(&[frame("", ""), frame("", "")], None);
        assert_eq!(named.shown().len(), 3);
        let java = stack(
            &[
                frame("int sun.nio.ch.Net.socket0", ""),
                frame("Interpreter", ""),
            ],
            Some(Runtime::JavaWithoutFrames),
        );
        assert!(java.shown().is_empty());
        let mut nobody = stack(&[frame("", "")], node);
        nobody.script = None;
        assert_eq!(nobody.shown().len(), 2);
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
