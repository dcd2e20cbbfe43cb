//! What the user side tells running programs, and what they count.

/// Only fdtrace's own process is reported: the self-test is running.
pub const PHASE_SELF_TEST: u32 = 0;
/// Everything in scope is reported.
pub const PHASE_ARMED: u32 = 1;
/// The same, but changes of tables only where they are watched: there are more than can be read.
pub const PHASE_WATCHED: u32 = 2;

/// The one entry of the control map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Raised once a second by the reader. A failure that goes on is told in full once per tick
    /// and CPU; a reader that stalls is not flooded.
    pub tick: u64,
    /// One of the `PHASE_` constants.
    pub phase: u32,
    /// One of the `STACKS_` constants of [`crate::stack`]: [`crate::stack::STACKS_NAMED`] only while there
    /// are tables that have been named.
    pub stacks: u32,
    /// The tables that have been named, up to the first 0: to look for one in their map takes two hundred
    /// instructions. [`NAMED_ANY`] where the map has to be asked, and where stacks of everybody are wanted.
    pub named: [u64; NAMED_WORDS],
}

/// Tables that [`Control::named`] has room for. Addresses are compared, since verifiers allow no arithmetic on them
/// that a hash could begin with.
pub const NAMED_WORDS: usize = 6;
/// See [`Control::named`].
pub const NAMED_ANY: u64 = u64::MAX;

/// Records that found the ring full.
pub const COUNTER_RING_FULL: u32 = 0;
/// Failures of a key for which the storm map had no room: neither told nor counted.
pub const COUNTER_STORMS_FULL: u32 = 1;
/// Children, and cgroups, that could not be added to the followed set.
pub const COUNTER_FOLLOW_FULL: u32 = 2;
/// Closes whose arguments could not be kept from a function's entry to its exit.
pub const COUNTER_PENDING_FULL: u32 = 3;
/// Changes of tables that were not told because of [`PHASE_WATCHED`].
pub const COUNTER_SHED: u32 = 4;
/// Stacks that were not told: there were too many, or the ring was half full.
pub const COUNTER_STACKS: u32 = 5;
/// Chunks of slots that could not be had: all were taken, or the directory was full. Ages of their fds are unknown.
pub const COUNTER_CHUNKS: u32 = 6;
/// How many counters there are.
pub const COUNTERS: usize = 7;

/// What one CPU has counted. A cache line, so that CPUs do not take it from each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// By the `COUNTER_` constants.
    pub counts: [u64; COUNTERS],
    /// Always 0.
    pub padding: [u64; 8 - COUNTERS],
}

/// Tables that can be watched at once.
pub const WATCHED_MAX: u32 = 16_384;

/// cgroups that one run can be limited to.
pub const CGROUPS_MAX: u32 = 64;
/// cgroups in scope, with all below them.
pub const CGROUP_IDS_MAX: u32 = 65_536;
/// Bytes of a cgroup's path by which a program recognises it, with a NUL behind it: the largest key that the kernel
/// allows in a map (`MAX_BPF_STACK`, `htab_map_alloc_check` in kernel/bpf/hashtab.c).
pub const CGROUP_PATH_SIZE: usize = 512;

const _: () = assert!(size_of::<Control>() == 64);
const _: () = assert!(size_of::<Counters>() == 64);
