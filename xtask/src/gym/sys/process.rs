//! Making processes and tables, and waiting for them.

use std::{
    ffi::{CStr, c_char, c_void},
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    ptr,
};

use super::check;

/// Forks; `child` runs in the new process, whose exit status is what it returns.
///
/// Only sound while the caller is the only thread: the child then is a whole copy.
pub(crate) fn fork_into(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: single-threaded, so no lock is held by a thread that the child does not have.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        exit_now(child());
    }
    Ok(pid)
}

/// Forks a process that has other threads; `child` makes system calls only, no memory.
pub(crate) fn fork_bare(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the child takes no lock that another thread may have held.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        exit_now(child());
    }
    Ok(pid)
}

/// Makes a process with its own memory that shares the caller's descriptor table.
///
/// As with `fork_into`, the caller has to be the only thread.
pub(crate) fn clone_files(child: impl FnOnce() -> i32) -> io::Result<i32> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has its own memory; it goes on with a copy of the stack.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if pid == 0 {
        exit_now(child());
    }
    i32::try_from(pid).map_err(io::Error::other)
}

/// What the child of `vfork_exec` needs; it lives in the parent's memory.
struct Exec {
    /// The program.
    path: *const c_char,
    /// Its arguments, up to a null pointer.
    arguments: *const *const c_char,
    /// Its environment: a null pointer only.
    environment: *const *const c_char,
}

/// Replaces the child with the program, and does nothing else.
extern "C" fn exec(what: *mut c_void) -> i32 {
    // SAFETY: the parent, which is stopped until exec, has passed this structure.
    let what = unsafe { &*what.cast::<Exec>() };
    // SAFETY: the strings and lists end as exec wants them to.
    unsafe { libc::execve(what.path, what.arguments, what.environment) };
    exit_now(127)
}

/// The arguments as exec wants them: they live as long as the strings.
fn list(arguments: &[&CStr]) -> Vec<*const c_char> {
    let pointers = arguments.iter().map(|argument| argument.as_ptr());
    pointers.chain([ptr::null()]).collect()
}

/// `clone` as `vfork` makes it, in the caller's memory on a stack of its own, and exec of `path`.
pub(crate) fn vfork_exec(path: &CStr, arguments: &[&CStr]) -> io::Result<i32> {
    /// Enough for one function that makes one call.
    const STACK: usize = 64 << 10;
    let arguments = list(arguments);
    let mut what = Exec {
        path: path.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: &raw const NO_ENVIRONMENT.0,
    };
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end.cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the structure outlive the child's use of this memory, because the
    // caller stands still until exec; the top of the stack is aligned.
    check(unsafe { libc::clone(exec, top, flags, (&raw mut what).cast()) })
}

/// A list of no variables.
struct NoEnvironment(*const c_char);

// SAFETY: a null pointer leads nowhere.
unsafe impl Sync for NoEnvironment {}

/// The environment that programs are started with here.
static NO_ENVIRONMENT: NoEnvironment = NoEnvironment(ptr::null());

/// What `posix_spawn` does to the child's table before exec.
pub(crate) enum Action<'a> {
    /// `dup2(from, to)`.
    Dup2(RawFd, RawFd),
    /// `close`.
    Close(RawFd),
    /// `open` for reading, as a number.
    Open(RawFd, &'a CStr),
}

/// `posix_spawn` with file actions.
pub(crate) fn posix_spawn(path: &CStr, arguments: &[&CStr], actions: &[Action]) -> io::Result<i32> {
    let arguments = list(arguments);
    // SAFETY: plain data, which the next call fills in.
    let mut prepared: libc::posix_spawn_file_actions_t = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    code(unsafe { libc::posix_spawn_file_actions_init(&raw mut prepared) })?;
    for action in actions {
        code(match *action {
            // SAFETY: the structure has been initialised.
            Action::Dup2(from, to) => unsafe {
                libc::posix_spawn_file_actions_adddup2(&raw mut prepared, from, to)
            },
            // SAFETY: the structure has been initialised.
            Action::Close(number) => unsafe {
                libc::posix_spawn_file_actions_addclose(&raw mut prepared, number)
            },
            // SAFETY: the structure has been initialised, and the path ends in NUL.
            Action::Open(number, path) => unsafe {
                libc::posix_spawn_file_actions_addopen(
                    &raw mut prepared,
                    number,
                    path.as_ptr(),
                    libc::O_RDONLY,
                    0,
                )
            },
        })?;
    }
    let mut pid = 0;
    // SAFETY: the strings and lists end as exec wants them to, and outlive the call.
    let spawned = code(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            &raw const prepared,
            ptr::null(),
            arguments.as_ptr().cast(),
            (&raw const NO_ENVIRONMENT.0).cast(),
        )
    });
    // SAFETY: the structure has been initialised, and is not used any more.
    unsafe { libc::posix_spawn_file_actions_destroy(&raw mut prepared) };
    spawned.map(|()| pid)
}

/// Turns a returned errno into the error it stands for.
fn code(errno: i32) -> io::Result<()> {
    if errno == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(errno))
}

/// Ends a process the hard way.
pub(crate) fn kill(pid: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, libc::SIGKILL) }).map(drop)
}

/// Makes the caller the parent of descendants whose own parent ends.
pub(crate) fn adopt_descendants() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// `clone` as glibc's `fork` makes it, told apart from musl's `fork`; a child ends at once.
pub(crate) fn clone() -> io::Result<i64> {
    // SAFETY: without CLONE_VM the child has its own memory, and leaves before touching any.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    if pid == 0 {
        exit_now(0);
    }
    Ok(pid)
}

/// `clone3` that asks for a pidfd of the child; a child ends at once.
pub(crate) fn clone3_pidfd() -> io::Result<i64> {
    let mut pidfd = -1i32;
    // SAFETY: the structure is plain numbers; zero asks for nothing.
    let mut wanted: libc::clone_args = unsafe { mem::zeroed() };
    wanted.flags = libc::CLONE_PIDFD.unsigned_abs().into();
    wanted.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    wanted.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child has its own memory, and leaves before touching any.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut wanted, size) })?;
    if pid == 0 {
        exit_now(0);
    }
    Ok(pid)
}

/// `clone3` of a child with this number, which is taken: an error number, unless such calls are not to be had.
pub(crate) fn clone3_as(number: i32) -> io::Result<io::Result<i64>> {
    // SAFETY: the structure is plain numbers; zero asks for nothing.
    let mut wanted: libc::clone_args = unsafe { mem::zeroed() };
    wanted.set_tid = (&raw const number).expose_provenance() as u64;
    wanted.set_tid_size = 1;
    wanted.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child has its own memory, and leaves before touching any.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut wanted, size) });
    match pid {
        Ok(0) => exit_now(0),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(pid) => Ok(Ok(pid)),
    }
}

/// Parts the calling thread from what the flags name.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: the numbers that are open stay open in the copy.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Takes the calling thread alone all that root may do.
pub(crate) fn become_nobody() -> io::Result<()> {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) }).map(drop)
}

/// Gives the calling thread a descriptor table of its own.
pub(crate) fn unshare_files() -> io::Result<()> {
    // SAFETY: the numbers that are open stay open in the copy.
    check(unsafe { libc::unshare(libc::CLONE_FILES) }).map(drop)
}

/// Ends the process without running anything else.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: nothing runs afterwards that could miss what has not been tidied up.
    unsafe { libc::_exit(status) }
}

/// Ends the calling thread alone, be it the first one.
pub(crate) fn exit_thread() -> ! {
    loop {
        // SAFETY: what lies on this thread's stack stays there, as long as the process lives.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Waits for a child's end; its exit status, or `None` if a signal ended it.
pub(crate) fn wait_for(pid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
}

/// The calling thread's number.
pub(crate) fn tid() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() }
}

/// The calling process's number.
pub(crate) fn id() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::getpid() }
}

/// The number of the calling process's parent.
pub(crate) fn parent() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::getppid() }
}

/// `getppid`, which the seccomp scenario's filter stops.
pub(crate) fn getppid() {
    // SAFETY: no memory is involved.
    unsafe { libc::getppid() };
}

/// Starts a session, so that signals meant for the terminal's processes pass by.
pub(crate) fn setsid() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Waits until there is something to read, or the other end is closed; false after the time.
pub(crate) fn readable(fd: BorrowedFd, milliseconds: i32) -> io::Result<bool> {
    let mut wanted = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: there is one entry, as the count says.
    Ok(check(unsafe { libc::poll(&raw mut wanted, 1, milliseconds) })? > 0)
}

/// The same with several: which of them have something.
pub(crate) fn poll(fds: &[BorrowedFd], milliseconds: i32) -> io::Result<Vec<bool>> {
    let mut wanted: Vec<_> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(wanted.len()).map_err(io::Error::other)?;
    // SAFETY: there are as many entries as the count says.
    check(unsafe { libc::poll(wanted.as_mut_ptr(), count, milliseconds) })?;
    Ok(wanted.iter().map(|one| one.revents != 0).collect())
}

/// The CPUs that the calling thread may run on.
pub(crate) fn cpus() -> io::Result<Vec<usize>> {
    let mut set = no_cpus();
    // SAFETY: the set outlives the call, and is as large as is said.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the numbers are within the set.
    Ok((0..limit)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect())
}

/// Has the calling thread run on this CPU, from the next instruction on.
pub(crate) fn run_on(cpu: usize) -> io::Result<()> {
    let mut set = no_cpus();
    // SAFETY: a number that the set does not have is ignored.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set outlives the call, and is as large as is said.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
        .map(drop)
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: plain numbers; zero stands for no CPU.
    unsafe { mem::zeroed() }
}

/// Has the calling process killed when the one that forked it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}
