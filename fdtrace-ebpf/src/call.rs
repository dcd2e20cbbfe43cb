//! Which system call the current thread is in, and with what arguments.

use aya_ebpf::Global;
use fdtrace_common::alarm::{CALL_COMPAT, CALL_IO_URING, CALL_NUMBER, OWN_LIMITS};

use crate::kernel::{Address, member, offset};

/// The number of `io_uring_enter`.
#[unsafe(no_mangle)]
static NR_IO_URING_ENTER: Global<u32> = Global::new(u32::MAX);

/// `PF_IO_WORKER`: a thread of `io_uring`'s own (include/linux/sched.h, 5.10 to 7.2).
const PF_IO_WORKER: u32 = 0x10;
/// `PF_KTHREAD`: before 5.12 `io_uring`'s workers were kernel threads with a borrowed table.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `TS_COMPAT` in x86's `thread_info.status`: a 32-bit syscall is in progress.
const TS_COMPAT: u32 = 0x2;

/// A call as the registers tell it.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// The number, with the `CALL_` flags.
    pub(crate) code: u32,
    /// The registers it was entered with.
    pub(crate) registers: Address,
}

/// The call that `task`, the current one, is in; `registers` as it entered the kernel.
#[inline(always)]
pub(crate) fn current(task: Address, registers: Address) -> Call {
    let number: i32 = member(registers, &offset::REGS_CALL);
    let flags: u32 = member(task, &offset::TASK_FLAGS);
    let status: u32 = member(task, &offset::TASK_STATUS);
    // A negative number means that the thread came in by an interrupt: it runs queued work, and the
    // only work that asks for fds there is io_uring's.
    let code = if flags & (PF_IO_WORKER | PF_KTHREAD) != 0
        || number < 0
        || number as u32 == NR_IO_URING_ENTER.load()
    {
        CALL_IO_URING
    } else if status & TS_COMPAT != 0 {
        (number as u32 & CALL_NUMBER) | CALL_COMPAT
    } else {
        number as u32 & CALL_NUMBER
    };
    Call { code, registers }
}

impl Call {
    /// The first three arguments.
    #[inline(always)]
    pub(crate) fn arguments(&self) -> [u64; 3] {
        if self.code & CALL_COMPAT != 0 {
            [
                member(self.registers, &offset::REGS_COMPAT_ARG0),
                member(self.registers, &offset::REGS_COMPAT_ARG1),
                member(self.registers, &offset::REGS_ARG2),
            ]
        } else {
            [
                member(self.registers, &offset::REGS_ARG0),
                member(self.registers, &offset::REGS_ARG1),
                member(self.registers, &offset::REGS_ARG2),
            ]
        }
    }
}

/// Numbers of the calls whose own limit has a hook ([`crate::own_limit`]), and their count.
#[unsafe(no_mangle)]
static NR_OWN_LIMIT: Global<[u32; OWN_LIMITS]> = Global::new([u32::MAX; OWN_LIMITS]);

/// Can this call fail with EMFILE or ENFILE for a reason of its own, at a hook of its own?
#[inline(always)]
pub(crate) fn has_own_limit(call: Call) -> bool {
    let numbers = NR_OWN_LIMIT.load();
    let mut found = false;
    for number in numbers {
        found |= number == call.code;
    }
    found
}
