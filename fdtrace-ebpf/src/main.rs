//! fdtrace's kernel programs: one attach point each, a line or two, calling into the modules.
//!
//! The function a program attaches to is chosen by the user side when it loads it
//! (`fdtrace::probe::plan`); a program that is not loaded costs nothing.
//!
//! This is the object for kernels with the helper `bpf_loop` (5.17); `unrolled.rs` is the one for those
//! without.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
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

/// Loops over a table are the kernel's own, verified once.
const HAS_LOOP: bool = true;

include!("programs.rs");
