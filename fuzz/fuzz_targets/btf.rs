//! Types of any bytes, and the look-ups that fdtrace makes in a kernel's.
#![no_main]

use fdtrace::probe::{btf::Btf, globals, plan};
use libfuzzer_sys::fuzz_target;

/// A kernel's types, as far as fdtrace asks for them.
const TYPES: &[u8] = include_bytes!("../../fdtrace/tests/btf/debian-7.2.btf");

fn ask(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else {
        return;
    };
    let _ = globals::resolve_fields(&btf);
    let _ = plan::install_has_files(&btf);
    let _ = plan::dup_fd_has_errorp(&btf);
    let _ = btf.size_of("pt_regs");
    let _ = btf.enumerator("bpf_func_id", "BPF_FUNC_loop");
    let _ = btf.has_tracepoint("sys_exit");
}

/// Those types with a word changed for each six bytes of the input: where, and to what.
fn damaged(input: &[u8]) -> Vec<u8> {
    let mut bytes = TYPES.to_vec();
    let words = bytes.len() / 4;
    let (patches, _) = input.as_chunks::<6>();
    for [low, high, word @ ..] in patches {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % words * 4;
        let word: [u8; 4] = *word;
        bytes[at..at + 4].copy_from_slice(&word);
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    // As they are, which the header mostly refuses; and as damage to what is right.
    ask(input.to_vec());
    ask(damaged(input));
});
