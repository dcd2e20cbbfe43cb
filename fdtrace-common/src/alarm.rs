//! The alarm: a call that failed for want of an fd, and how often it went on failing.
//!
//! A program reports raw facts only (which hook, which errno, which call, the table's state); what
//! they mean is decided by `diagnose::cause` on the user side, where it can be tested.

/// `alloc_fd` returned an error: no free number below the limit it was given.
pub const HOOK_ALLOC_FD: u32 = 1;
/// `dup_fd` returned an error: a table could not be copied at fork, unshare or exec.
pub const HOOK_DUP_FD: u32 = 2;
/// `alloc_empty_file` returned an error: the host is out of files.
pub const HOOK_ALLOC_FILE: u32 = 3;
/// `ksys_dup3` returned EBADF although the source is open: the target number is out of reach.
pub const HOOK_DUP3: u32 = 4;
/// A syscall that returns EMFILE or ENFILE for reasons of its own did so, and none of the hooks
/// above had fired in it.
pub const HOOK_OWN_LIMIT: u32 = 5;
/// Any syscall returned EMFILE or ENFILE, or dup2/dup3 EBADF (the census backend's only source).
pub const HOOK_SYS_EXIT: u32 = 6;
/// A file system passed on what its server said: EMFILE or ENFILE, about the server's own fds.
pub const HOOK_FILE_SERVER: u32 = 7;
/// `receive_fd_replace` (`replace_fd` before 5.12) returned EBADF or EMFILE: the number that a seccomp supervisor
/// has chosen for a file is out of reach.
pub const HOOK_REPLACE: u32 = 8;
/// `unix_create1` returned ENFILE: the host has twice fs.file-max unix sockets. Before 5.16 it returns NULL, and
/// the process is told ENOMEM.
pub const HOOK_UNIX_SOCKET: u32 = 9;
/// `io_fixed_fd_install`, or `__io_fixed_fd_install` for a file passed by another ring, returned ENFILE: the ring's table of registered files is full.
pub const HOOK_RING_FILE: u32 = 10;

/// `AlarmRecord::flags`: the thread is stopped in its call, and a seccomp supervisor was putting a file into its
/// table.
pub const ALARM_BY_SUPERVISOR: u32 = 1;

/// `StormKey::call`: the call came from `io_uring`; no other bit is set.
pub const CALL_IO_URING: u32 = 1 << 31;
/// `StormKey::call`: the lower bits are a number of the 32-bit syscall table.
pub const CALL_COMPAT: u32 = 1 << 30;
/// The syscall number inside `StormKey::call`.
pub const CALL_NUMBER: u32 = CALL_COMPAT - 1;

/// What makes two failures the same one repeated.
///
/// `files` alone would not do: the allocator hands the same address to the next process at once.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StormKey {
    /// Address of the `files_struct`.
    pub files: u64,
    /// Start of the process, nanoseconds since boot (`group_leader->start_boottime`).
    pub started_ns: u64,
    /// The process.
    pub tgid: u32,
    /// Syscall number with `CALL_` flags.
    pub call: u32,
    /// One of the `HOOK_` constants.
    pub hook: u32,
    /// The errno, positive.
    pub errno: u32,
    /// The limit that the call ran against: `alloc_fd`'s `end`, else the soft `RLIMIT_NOFILE`;
    /// `u32::MAX` stands for anything larger.
    pub limit: u32,
    /// Where programs count, the CPU: each has an entry of its own. In a record 0.
    pub cpu: u32,
}

/// Value of the storm map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormCell {
    /// Failures counted on this CPU since the key was first seen, told or not.
    pub failures: u64,
    /// [`crate::control::Control::tick`] at the last record from this CPU.
    pub tick: u64,
}

/// The last failure of `alloc_fd` on a CPU: what goes on failing in the same way is counted here, and goes
/// into its [`StormCell`] when another failure takes its place, or when it is told again.
///
/// The user side reads it while programs write it, word by word.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RepeatCell {
    /// Odd while the cell is being changed, but for `pending`.
    pub sequence: u64,
    /// Failures that [`StormCell::failures`] lacks.
    pub pending: u64,
    /// Whose they are, on this CPU.
    pub key: StormKey,
    /// [`crate::control::Control::tick`] at the time; 0: nothing is repeated.
    pub tick: u64,
    /// Start of the thread, nanoseconds since boot.
    pub thread_started_ns: u64,
    /// Its system call's number, as the register has it.
    pub call: u64,
    /// [`crate::control::Control::tick`] now, written by the user side: where the cell is read, everything
    /// that it is compared with is in it.
    pub now: u64,
    /// `thread_info.status` on x86.
    pub task_status: u32,
    /// Always 0.
    pub padding: [u32; 9],
}

/// Numbers of system calls that have a limit of their own and a hook for it ([`HOOK_OWN_LIMIT`]), in
/// the native table and in the 32-bit one.
pub const OWN_LIMITS: usize = 14;

/// Bytes kept of one component of a path, its final NUL included; longer ones are cut.
pub const COMPONENT_SIZE: usize = 128;
/// Components kept of an executable's path; a mount that is crossed takes the place of one.
pub const EXE_DEPTH: usize = 20;
/// Components kept of a cgroup's path.
pub const CGROUP_DEPTH: usize = 12;

/// A path as the kernel links it: its components from the last to the first, each at a place of its
/// own and filled up with NULs. `/usr/bin/python3` is `python3`, `bin`, `usr`. Empty places stand
/// for nothing.
pub type Path<const DEPTH: usize> = [[u8; COMPONENT_SIZE]; DEPTH];

/// One failure in full.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AlarmRecord {
    /// [`crate::record::RECORD_ALARM`].
    pub kind: u32,
    /// `ALARM_` flags; recordings of before have none.
    pub flags: u32,
    /// Nanoseconds since boot, suspend included.
    pub time_ns: u64,
    /// Which failure.
    pub key: StormKey,
    /// [`StormCell::failures`] of `cpu`, this one included.
    pub failures: u64,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
    /// First three syscall arguments as registers; meaningless where the call is `io_uring`'s.
    pub arguments: [u64; 3],
    /// The CPU that counted.
    pub cpu: u32,
    /// The thread.
    pub tid: u32,
    /// Its user, in the host's user namespace.
    pub uid: u32,
    /// Numbers taken in the table (bits of `open_fds`), [`crate::UNKNOWN`] beyond
    /// [`USED_COUNTED`].
    pub used: u32,
    /// Numbers that lead to a file, [`crate::UNKNOWN`] beyond [`OPEN_COUNTED`].
    pub open: u32,
    /// Size of the table now, a multiple of 64.
    pub max_fds: u32,
    /// 1 where the walk up from the program has ended before the root.
    pub exe_truncated: u32,
    /// The same for the cgroup.
    pub cgroup_truncated: u32,
    /// The thread's name.
    pub comm: [u8; 16],
    /// The program, from its mount namespace's root.
    pub exe: Path<EXE_DEPTH>,
    /// The cgroup v2 path.
    pub cgroup: Path<CGROUP_DEPTH>,
}

/// Tables of up to this many slots are counted bit by bit in the kernel.
pub const USED_COUNTED: u32 = 65_536;
/// Tables of up to this many slots have their file pointers counted in the kernel.
pub const OPEN_COUNTED: u32 = 4_096;

const _: () = assert!(size_of::<StormKey>() == 40);
const _: () = assert!(size_of::<StormCell>() == 16);
// Cache lines of its own for each CPU.
const _: () = assert!(size_of::<RepeatCell>() == 128);
const _: () = assert!(size_of::<AlarmRecord>() == 4256);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya's marker for types the kernel may fill is an unsafe trait"
)]
mod pod {
    // SAFETY: `repr(C)`, integers only, no padding (the size is asserted above).
    unsafe impl aya::Pod for super::StormKey {}
    // SAFETY: `repr(C)`, integers only, no padding (the size is asserted above).
    unsafe impl aya::Pod for super::StormCell {}
}
