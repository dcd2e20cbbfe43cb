//! The mark on the call that fdtrace's self-test makes fail on purpose.
//!
//! Every start of fdtrace makes one dup fail with EMFILE, in a child with a limit of 0. For any other fdtrace on the
//! host that would be an alarm. dup reads its first argument only, and the kernel keeps the registers of the second and
//! third one: the self-test puts [`MARK`] there, and every fdtrace ignores a failed dup that carries it.
//!
//! The mark is on one call, not on a process: whatever else fails in an fdtrace is reported as for anybody. It counts
//! only from threads with `CAP_BPF` or `CAP_SYS_ADMIN` in the first user namespace, as each fdtrace that can load its
//! programs has them. Whoever lacks both cannot hide a failure by it; whoever has them could end fdtrace as well.

/// Second and third argument of the marked dup: no addresses, and nothing that a C library leaves in registers.
pub const MARK: [u64; 2] = [0xfd7a_ce5e_1f7e_57ed, 0x5e1f_7e57_fd7a_ceed];
/// `CAP_SYS_ADMIN` and `CAP_BPF` as bits of a capability set (include/uapi/linux/capability.h).
pub const MAY_MARK: u64 = 1 << 21 | 1 << 39;
