//! Types of any bytes, and the look-ups that fdtrace makes in a kernel's.
#![no_main]

use fdtrace::probe::{btf::Btf, globals, plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else {
        return;
    };
    let _ = globals::resolve_fields(&btf);
    let _ = plan::alloc_fd_has_files(&btf);
    let _ = plan::dup_fd_has_errorp(&btf);
    let _ = btf.size_of("pt_regs");
    let _ = btf.enumerator("bpf_func_id", "BPF_FUNC_loop");
    let _ = btf.has_tracepoint("sys_exit");
});
