//! One at a time, on kernels before 5.12, which cannot compare and swap: of two that put a chunk into the same place there,
//! the first one's would be lost, and a file that has just been opened look as if it had come with its table.
//!
//! What these kernels have is a hash table that takes a key once. Whoever puts a region's number in is alone in that part
//! of the directory. The last places of a region are those of the next one as well: there two chunks can still meet, which
//! takes two hashes of those in a thousand, within a microsecond.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::HashMap};

/// Regions, in bits of their number.
pub(super) const BITS: u32 = 6;

/// Those that somebody is in.
#[map]
static REGIONS: HashMap<u32, u32> = HashMap::with_max_entries(2 << BITS, 0);

/// Tries, each some hundred nanoseconds, which is about as long as others are there.
const PATIENCE: u32 = 256;

/// Alone in a region from here on; 0: somebody else is there, and stays. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn slots_enter_region(region: u32) -> u32 {
    for _ in 0..PATIENCE {
        if REGIONS.insert(region, 0, u64::from(BPF_NOEXIST)).is_ok() {
            return 1;
        }
    }
    0
}

/// The next one may come.
#[inline(always)]
pub(super) fn leave(region: u32) {
    let _ = REGIONS.remove(region);
}
