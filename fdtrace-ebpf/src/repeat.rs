//! Loops whose length only the kernel knows.

use aya_ebpf::helpers::generated::bpf_loop;

/// What a loop does, turn by turn.
///
/// Verifiers before 6.7 look at one turn of a `bpf_loop` only, and take what it leaves in `self` for the
/// end of the loop. Nothing may therefore become of a member that they could know: no counting of turns.
pub(crate) trait Turn {
    /// One turn. The index is as the kernel hands it over: of one that is cut to 32 bits, verifiers forget what a
    /// comparison has shown.
    fn turn(&mut self, index: u64);
}

/// Takes `times` turns, but at most `MOST`.
#[inline(always)]
pub(crate) fn repeat<const MOST: u32, T: Turn>(times: u32, work: &mut T) {
    if crate::HAS_LOOP {
        let turn: unsafe extern "C" fn(u64, *mut T) -> i64 = turn::<T>;
        let times = if times > MOST { MOST } else { times };
        // SAFETY: the callback takes what it is given here, and only for as long as the loop goes on.
        unsafe { bpf_loop(times, turn as *mut _, (&raw mut *work).cast(), 0) };
    } else {
        for index in 0..MOST {
            if index >= times {
                break;
            }
            work.turn(u64::from(index));
        }
    }
}

/// `long callback(u32 index, void *context)`; 0 goes on.
unsafe extern "C" fn turn<T: Turn>(index: u64, work: *mut T) -> i64 {
    // SAFETY: the caller's `work`, which nobody else uses meanwhile.
    unsafe { (*work).turn(index) };
    0
}
