// All there is of fdtrace's kernel programs, included by both objects.

mod actor;
mod alarm;
mod ask;
mod call;
mod census;
mod changes;
mod code;
mod control;
mod exhaustion;
mod files;
mod handover;
mod held;
mod identity;
mod kernel;
mod paths;
mod peer;
mod repeat;
mod repeats;
mod ring;
mod scope;
mod seccomp;
mod selects;
mod self_test;
mod slots;
mod stacks;
mod tables;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives its GPL-only helpers to programs that say this.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
