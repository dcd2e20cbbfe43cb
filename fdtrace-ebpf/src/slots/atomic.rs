//! What the compiler cannot be asked for: instructions of this target that need assembler.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// The lower half of an address.
///
/// Verifiers allow no arithmetic on pointers that a hash could begin with. They let one be moved as 32 bits, and take
/// what comes of it for a number (`check_alu_op` in kernel/bpf/verifier.c, 5.10 to 7.2).
#[inline(always)]
pub(super) fn low(address: u64) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let low: u64;
        // SAFETY: a move from one register to another.
        unsafe {
            asm!("w2 = w1", in("r1") address, out("r2") low, options(nomem, nostack, pure));
        }
        low as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        address as u32
    }
}

/// Adds to a word that others may add to as well. Every kernel has it in this form, which gives nothing back.
///
/// # Safety
///
/// `word` must lie in a map's value.
#[inline(always)]
pub(super) unsafe fn add(word: *mut u64, more: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) more, options(nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *word += more;
    }
}

/// Puts `new` where there is `old`; was it?
///
/// Kernels before 5.12 cannot compare and swap: only one may come at a time there ([`super::regions`]).
///
/// # Safety
///
/// `word` must lie in a map's value.
#[inline(always)]
pub(super) unsafe fn replace(word: *mut u32, old: u32, new: u32) -> bool {
    #[cfg(target_arch = "bpf")]
    if crate::HAS_LOOP {
        let was: u64;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "w0 = cmpxchg32_32(r1 + 0, w0, w2)",
                in("r1") word,
                in("r2") u64::from(new),
                inout("r0") u64::from(old) => was,
                options(nostack),
            );
        }
        return was as u32 == old;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let is_there = word.read_volatile() == old;
        if is_there {
            word.write_volatile(new);
        }
        is_there
    }
}
