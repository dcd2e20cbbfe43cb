//! Where in a program an fd was opened: the registers it entered the kernel with, and a copy of its stack.
//!
//! Programs and libraries come without frame pointers, and only user space has what it takes to unwind
//! them (`.eh_frame`). So the kernel programs copy, and fdtrace unwinds.

use crate::alarm::{COMPONENT_SIZE, EXE_DEPTH, Path};

/// No stacks at all: what would take them is dead code.
pub const STACKS_NEVER: u32 = 0;
/// Stacks of those who open in tables that the user side has named.
pub const STACKS_NAMED: u32 = 1;
/// Stacks of everybody in scope.
pub const STACKS_ALL: u32 = 2;

/// Pages of a stack that are copied at most; the first one from where the stack pointer is.
pub const STACK_PAGES: u32 = 3;
/// Bytes of a page, as far as copying is concerned: kernels with larger ones copy in parts.
pub const STACK_PAGE: u32 = 4096;
/// Bytes of a stack that travel at most.
pub const STACK_MAX: usize = (STACK_PAGES * STACK_PAGE) as usize;

/// Registers that travel: instruction pointer, stack pointer, frame pointer, and those that a function
/// must give back as it got them (x86-64: rbx, r12 to r15) or that say where it returns to (arm64: x30).
pub const REGISTERS: usize = 8;
/// The instruction pointer: what follows the system call.
pub const REGISTER_IP: usize = 0;
/// The stack pointer.
pub const REGISTER_SP: usize = 1;
/// The frame pointer.
pub const REGISTER_BP: usize = 2;
/// The first of the others.
pub const REGISTER_OTHERS: usize = 3;

/// [`StackRecord::fd`] of a call that fails for want of an fd: this bit, and below it the number of the thread. No fd is
/// so large. It comes before the alarm.
pub const FAILING: u32 = 1 << 31;

/// Tables that can be named at once.
pub const STACK_TABLES_MAX: u32 = 4_096;
/// Stacks of one named table that are told in a second at most.
pub const STACKS_OF_TABLE: u32 = 128;
/// Stacks that are told from one CPU in a second at most.
pub const STACKS_OF_CPU: u32 = 512;

/// Numbers of native system calls that can be told apart at their end.
pub const CALLS_MAX: u32 = 512;
/// A call that gives no new fd, or none that can be told at its end.
pub const OPENS_NOTHING: u32 = 0;
/// It returns the new fd.
pub const OPENS_RESULT: u32 = 1;
/// The same, where the first argument is -1: otherwise it changes the fd that it is given (signalfd).
pub const OPENS_IF_NEW: u32 = 2;
/// It returns the fd of the second argument, which is new where it is not the first (dup2).
pub const OPENS_OTHER: u32 = 3;
/// The same as [`OPENS_RESULT`] for some commands only (fcntl).
pub const OPENS_BY_COMMAND: u32 = 4;
/// It writes two fds to where the first argument points (pipe).
pub const OPENS_PAIR: u32 = 5;
/// It writes two fds to where the fourth argument points (socketpair).
pub const OPENS_SOCKETS: u32 = 6;

/// The head of a stack's record; `length` bytes of the stack follow, from the stack pointer upwards.
///
/// It comes before the record of the file that it belongs to.
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRecord {
    /// [`crate::record::RECORD_STACK`].
    pub kind: u32,
    /// The number that the file gets, or [`FAILING`].
    pub fd: u32,
    /// The table.
    pub files: u64,
    /// The file; 0 where the call fails.
    pub file: u64,
    /// Where the stack of the program began (`mm_struct.start_stack`): with address space randomisation, a
    /// number that no other program run has.
    pub image: u64,
    /// Where the code of the executable ends (`mm_struct.end_code`), without what it has loaded besides: with the
    /// file, that says where it lies.
    pub end_code: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Where the thread's C library keeps what is its own (x86-64: `fsbase`); 0 where that is not known.
    pub thread_pointer: u64,
    /// Bytes of the stack behind this head.
    pub length: u32,
    /// Always 0.
    pub padding: u32,
    /// By the `REGISTER_` constants.
    pub registers: [u64; REGISTERS],
}

/// Where a kernel program puts a record together.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRoom {
    /// The head.
    pub head: StackRecord,
    /// The stack.
    pub bytes: [u8; STACK_MAX],
}

/// What a process executes: for stacks of one that has ended before anybody could read what it had mapped.
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProgramRecord {
    /// [`crate::record::RECORD_PROGRAM`].
    pub kind: u32,
    /// The process.
    pub tgid: u32,
    /// The inode of its executable.
    pub inode: u64,
    /// 1 where the path is cut at its beginning.
    pub exe_truncated: u32,
    /// Always 0.
    pub padding: u32,
    /// The path of its executable, as its mount namespace sees it.
    pub exe: Path<EXE_DEPTH>,
}

const _: () = assert!(size_of::<StackRecord>() == 128);
const _: () = assert!(size_of::<StackRoom>() == 128 + STACK_MAX);
const _: () = assert!(size_of::<ProgramRecord>() == 24 + EXE_DEPTH * COMPONENT_SIZE);
