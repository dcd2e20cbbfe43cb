//! The same kernel programs as in `main.rs`, for kernels without `bpf_loop`: not even dead code may refer
//! to a callback there (`resolve_pseudo_ldimm64` in kernel/bpf/verifier.c, 5.10), so this is an object of
//! its own.
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

/// Loops over a table are walked by the verifier, turn by turn.
const HAS_LOOP: bool = false;

include!("programs.rs");
