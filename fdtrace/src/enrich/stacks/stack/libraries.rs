//! Names of what is not the program's own: of C libraries, of languages' own libraries and runtimes. Tables of data.

/// Functions of C libraries that ask for fds, where they are linked into the program; leading underscores
/// and what versions add to the names left out.
pub(super) const WRAPPERS: &[&str] = &[
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
pub(super) const LIBRARIES: &[&str] = &[
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

/// How names of functions begin that belong to runtimes: libuv and Node, V8; the JDK, as `perf` maps and as native
/// methods spell it; Rust's asynchronous ones.
pub(super) const RUNTIMES: &[&str] = &[
    "uv_",
    "Builtins_",
    "node::",
    "v8::",
    "v8impl::",
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "com.sun.",
    "Ljava/",
    "Ljavax/",
    "Ljdk/",
    "Lsun/",
    "Java_java_",
    "Java_jdk_",
    "Java_sun_",
    "tokio::",
    "<tokio::",
    "mio::",
    "<mio::",
    "socket2::",
    "async_io::",
];

/// Libraries that are runtimes.
pub(super) const RUNTIME_MODULES: &[&str] = &[
    "libjava.so",
    "libjvm.so",
    "libnet.so",
    "libnio.so",
    "libuv.so.1",
];

/// The first parts of the packages of Go's standard library.
pub(super) const GO_PACKAGES: &[&str] = &[
    "archive", "bufio", "bytes", "compress", "context", "crypto", "database", "debug", "embed",
    "encoding", "errors", "expvar", "flag", "fmt", "hash", "html", "image", "internal", "io",
    "iter", "log", "maps", "math", "mime", "net", "os", "path", "plugin", "reflect", "regexp",
    "runtime", "slices", "sort", "strconv", "strings", "sync", "syscall", "testing", "text",
    "time", "unicode", "unique", "vendor", "weak",
];

/// Where threads and programs begin.
pub(super) const BEGINNINGS: &[&str] =
    &["_start", "clone", "clone3", "start_thread", "thread_start"];
