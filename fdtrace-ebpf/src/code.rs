//! Shows the user side the instructions of a kernel function, in which it looks for the branch that fails.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_probe_read_kernel,
    macros::{kprobe, map, raw_tracepoint},
    maps::Array,
    programs::{ProbeContext, RawTracePointContext},
};
use fdtrace_common::code::{CODE_PLACES_SIZE, CODE_SIZE};

use crate::kernel::{Address, member, offset};

/// What has been read.
#[map]
static CODE: Array<[u8; CODE_SIZE]> = Array::with_max_entries(1, 0);

/// Where the functions are that [`find_code`] sits on, in the order in which they were first called.
#[map]
static CODE_PLACES: Array<u64> = Array::with_max_entries(CODE_PLACES_SIZE, 0);

/// Sits at the beginning of functions for a while, and tells where in the kernel they are, as the register has it.
#[kprobe]
pub(crate) fn find_code(ctx: ProbeContext) -> u32 {
    let at: u64 = member(ctx.as_ptr() as Address, &offset::REGS_IP);
    for index in 0..CODE_PLACES_SIZE {
        if let Some(place) = CODE_PLACES.get_ptr_mut(index) {
            // SAFETY: a word that only this program writes; of two that come at once, the first time, to a function, each
            // writes the same.
            unsafe {
                let known = place.read_volatile();
                if known == 0 {
                    place.write_volatile(at);
                }
                if known == 0 || known == at {
                    break;
                }
            }
        }
    }
    0
}

/// Reads so many bytes from an address: the first two arguments of the call. It is attached to nothing, and run by
/// `BPF_PROG_TEST_RUN`. Where there is nothing, all bytes are 0.
#[raw_tracepoint]
pub(crate) fn read_code(ctx: RawTracePointContext) -> u32 {
    let arguments = ctx.as_ptr() as *const u64;
    // SAFETY: a raw tracepoint's context is an array of its arguments, of which a test run has twelve.
    let (from, size): (Address, u64) = unsafe { (arguments.read(), arguments.add(1).read()) };
    if size <= CODE_SIZE as u64
        && let Some(room) = CODE.get_ptr_mut(0)
    {
        // SAFETY: there is room for as much; the source may be any address.
        unsafe { bpf_probe_read_kernel(room.cast(), size as u32, from as *const _) };
    }
    0
}
