//! Stacks in which functions of a language have no names, because its runtime has not told any.

use serde::{Deserialize, Serialize};

use super::Frame;

/// What runs a program in another language than the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Node, or another program with V8 in `libnode`.
    Node,
    /// A JVM that keeps frame pointers.
    Java,
    /// A JVM that keeps none: who has called a function that it has compiled cannot be found.
    JavaWithoutFrames,
    /// .NET.
    DotNet,
    /// A `CPython` whose functions are not read: it is free-threaded, or of a version that is not known.
    Python,
}

impl Runtime {
    /// By the files that a process has mapped. `None`: none of them is known, or one is that tells its functions by itself.
    pub(in crate::enrich::stacks) fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Option<Self> {
        let names = paths.map(|path| path.rsplit('/').next().unwrap_or(path));
        let mut found = names.filter_map(|name| match name {
            "libjvm.so" => Some(Self::JavaWithoutFrames),
            "node" | "nodejs" => Some(Self::Node),
            "libcoreclr.so" => Some(Self::DotNet),
            _ => name.starts_with("libnode.so").then_some(Self::Node),
        });
        found.next()
    }

    /// The same, of a process that was started with these arguments and this environment.
    pub(in crate::enrich::stacks) fn started_with(self, words: &[u8]) -> Self {
        const KEEPS: &[u8] = b"-XX:+PreserveFramePointer";
        let keeps = || words.windows(KEEPS.len()).any(|part| part == KEEPS);
        if self == Self::JavaWithoutFrames && keeps() {
            Self::Java
        } else {
            self
        }
    }

    /// Has a stack of its functions that it alone could name? A function that was made at run time is in no file; V8 also has
    /// its own ones between them.
    pub(super) fn has_nameless(self, frames: &[Frame]) -> bool {
        let is_made = |frame: &Frame| frame.module.is_none();
        let is_named = |frame: &Frame| is_made(frame) && frame.function.is_some();
        match self {
            Self::Python => true,
            Self::JavaWithoutFrames => frames.iter().any(is_made),
            Self::Java | Self::DotNet => {
                let mut made = frames.iter().filter(|frame| is_made(frame));
                made.any(|frame| frame.function.is_none())
            }
            Self::Node => {
                let is_v8 = |frame: &Frame| {
                    let name = frame.function.as_deref().unwrap_or_default();
                    name.starts_with("v8::") || name.starts_with("Builtins_")
                };
                let runs_script = frames.iter().any(|frame| is_made(frame) || is_v8(frame));
                runs_script && !frames.iter().any(is_named)
            }
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
            ..Frame::default()
        }
    }

    #[test]
    fn runtimes_are_known_by_their_files() {
        let of = |paths: &[&str]| Runtime::of(paths.iter().copied());
        assert_eq!(
            of(&["/usr/bin/node", "/lib/libc.so.6"]),
            Some(Runtime::Node)
        );
        assert_eq!(of(&["/lib/libnode.so.108"]), Some(Runtime::Node));
        let java = ["/jvm/bin/java", "/jvm/lib/server/libjvm.so"];
        assert_eq!(of(&java), Some(Runtime::JavaWithoutFrames));
        let with = |words: &[u8]| of(&java).unwrap().started_with(words);
        assert_eq!(
            with(b"java\0-XX:+PreserveFramePointer\0Leak\0"),
            Runtime::Java
        );
        assert_eq!(with(b"java\0-Xmx64m\0Leak\0"), Runtime::JavaWithoutFrames);
        assert_eq!(of(&["/dotnet/libcoreclr.so"]), Some(Runtime::DotNet));
        assert_eq!(of(&["/usr/bin/nodes", "/usr/bin/python3.11"]), None);
    }

    #[test]
    fn functions_are_missing_where_the_runtime_has_told_none() {
        let libc = frame("open64", "/lib/libc.so.6");
        let v8 = frame("v8::internal::Builtin_HandleApiCall", "/usr/bin/node");
        let made = frame("", "");
        let node = Runtime::Node;
        assert!(node.has_nameless(&[libc.clone(), v8.clone()]));
        assert!(node.has_nameless(&[libc.clone(), made.clone()]));
        let named = frame("JS:~open /srv/app.js:3:17", "");
        assert!(!node.has_nameless(&[v8, named, made.clone()]));
        // A thread of libuv's runs no JavaScript.
        let worker = frame("uv__fs_open", "/usr/bin/node");
        assert!(!node.has_nameless(&[libc.clone(), worker]));
        let java = Runtime::Java;
        assert!(java.has_nameless(&[libc.clone(), made.clone()]));
        let interpreted = frame("Interpreter", "");
        assert!(!java.has_nameless(&[libc.clone(), interpreted.clone()]));
        let java = Runtime::JavaWithoutFrames;
        assert!(java.has_nameless(&[libc.clone(), interpreted]));
        assert!(!java.has_nameless(&[libc]), "a thread of the JVM's own");
    }
}
