//! Who waits with select(2): an `fd_set` of the C library has room for the fds below [`FD_SETSIZE`].

/// fds that an `fd_set` has room for (`__FD_SETSIZE` of `include/uapi/linux/posix_types.h`).
pub const FD_SETSIZE: u32 = 1_024;
/// Processes whose calls are remembered; the one that has called least recently makes room.
pub const SELECTS_MAX: u32 = 4_096;
/// System calls that are select, for programs of both word sizes.
pub const SELECT_CALLS: usize = 5;

/// What is known of a process's calls of select and pselect.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectCell {
    /// `start_boottime` of the process's first thread: another process can get the same number.
    pub started_ns: u64,
    /// The largest first argument (`nfds`), one more than the highest fd that was waited for. Never 0: a call
    /// without fds is a way to sleep.
    pub most: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<SelectCell>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya's marker for types the kernel may fill is an unsafe trait"
)]
mod pod {
    // SAFETY: `repr(C)`, integers only, no padding (the size is asserted above).
    unsafe impl aya::Pod for super::SelectCell {}
}
