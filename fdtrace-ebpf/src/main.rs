//! fdtrace's kernel programs: one attach point each, a line or two, calling into the modules.
//!
//! The function a program attaches to is chosen by the user side when it loads it
//! (`fdtrace::probe::plan`); a program that is not loaded costs nothing.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "kernel helpers, raw records and map values are unsafe by nature"
)]
#![expect(
    clippy::inline_always,
    reason = "verifiers before 5.10 lose the context's type across calls, and calls cost stack"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers and registers are 64 bits wide whatever they hold"
)]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "a record's paths lie at multiples of 8 although they are bytes"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one pointer, proven once, is read or written member by member"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the attach macros hand the context over by value"
)]

mod actor;
mod alarm;
mod call;
mod census;
mod control;
mod exhaustion;
mod files;
mod identity;
mod kernel;
mod paths;
mod ring;
mod scope;
mod slots;
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
