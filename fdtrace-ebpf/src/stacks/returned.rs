//! The end of system calls that open, for the backend that has no hook inside them.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::Array};
use fdtrace_common::stack::{
    CALLS_MAX, OPENS_BY_COMMAND, OPENS_IF_NEW, OPENS_NOTHING, OPENS_OTHER, OPENS_PAIR,
    OPENS_RESULT, OPENS_SOCKETS, STACKS_NEVER,
};

use super::{STACKS, copy};
use crate::{
    call::{self, Call},
    control,
    kernel::{self, Address, Table, member, offset},
};

/// How each native call gives new fds: one of the `OPENS_` constants.
#[map]
static OPENING_CALLS: Array<u32> = Array::with_max_entries(CALLS_MAX, 0);

/// `F_DUPFD` and `F_DUPFD_CLOEXEC` (include/uapi/asm-generic/fcntl.h and include/uapi/linux/fcntl.h).
const F_DUPFD: u32 = 0;
const F_DUPFD_CLOEXEC: u32 = 1030;

/// A system call has ended. Unless stacks are wanted of somebody, a load and a comparison.
#[inline(always)]
pub(crate) fn returned(registers: Address, result: i64) {
    if STACKS.load() != STACKS_NEVER
        && result >= 0
        && let Some(orders) = control::orders()
        && orders.names_any()
    {
        let files = kernel::current_files();
        if orders.may_name(files) {
            tell(files, registers, result);
        }
    }
}

/// Tells the stack with each fd that the call has opened.
#[inline(never)]
fn tell(files: Address, registers: Address, result: i64) {
    let call = call::current(kernel::current_task(), registers);
    // Calls of 32-bit programs, whose stacks nobody unwinds, have larger numbers.
    let opens = OPENING_CALLS.get(call.code).copied();
    let [first, second, _] = call.arguments();
    let opens_result = match opens.unwrap_or(OPENS_NOTHING) {
        OPENS_RESULT => true,
        OPENS_IF_NEW => first as u32 == u32::MAX,
        OPENS_OTHER => first as u32 != second as u32,
        OPENS_BY_COMMAND => matches!(second as u32, F_DUPFD | F_DUPFD_CLOEXEC),
        OPENS_PAIR => return tell_pair(files, first),
        OPENS_SOCKETS => return tell_pair(files, fourth_argument(call)),
        _ => false,
    };
    if opens_result {
        tell_one(files, result as u32);
    }
}

#[inline(always)]
fn fourth_argument(call: Call) -> Address {
    member(call.registers, &offset::REGS_ARG3)
}

/// Two fds, which the process has got at this address.
#[inline(always)]
fn tell_pair(files: Address, at: Address) {
    let mut pair = [0_u32; 2];
    // SAFETY: the destination is a local of this size; the source may be any address.
    let outcome =
        unsafe { bpf_probe_read_user((&raw mut pair).cast(), 8, at as *const core::ffi::c_void) };
    if outcome == 0 {
        tell_one(files, pair[0]);
        tell_one(files, pair[1]);
    }
}

#[inline(always)]
fn tell_one(files: Address, fd: u32) {
    let file = Table::of(files).file(fd);
    // Another thread may have closed it already.
    if file != 0 {
        copy(files, fd, file);
    }
}
