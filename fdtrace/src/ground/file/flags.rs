//! Flags of open(2).

/// `O_PATH` (include/uapi/asm-generic/fcntl.h).
const O_PATH: u32 = 0o10_000_000;

/// Bits that several names share are told once: `O_SYNC` holds `O_DSYNC`, `O_TMPFILE` `O_DIRECTORY`.
#[cfg(target_arch = "x86_64")]
const NAMES: [(u32, &str); 11] = [
    (0o2_000, "O_APPEND"),
    (0o4_000, "O_NONBLOCK"),
    (0o4_010_000, "O_SYNC"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (0o40_000, "O_DIRECT"),
    (0o20_200_000, "O_TMPFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o400_000, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (O_PATH, "O_PATH"),
];
#[cfg(target_arch = "aarch64")]
const NAMES: [(u32, &str); 11] = [
    (0o2_000, "O_APPEND"),
    (0o4_000, "O_NONBLOCK"),
    (0o4_010_000, "O_SYNC"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (0o200_000, "O_DIRECT"),
    (0o20_040_000, "O_TMPFILE"),
    (0o40_000, "O_DIRECTORY"),
    (0o100_000, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (O_PATH, "O_PATH"),
];

/// What an fd was opened with, and whether exec closes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// As the file has them.
    pub bits: u32,
    /// The fd's own flag.
    pub cloexec: bool,
}

impl Flags {
    /// `r`, `w`, `rw` or `path`.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self.bits & 3 {
            _ if self.bits & O_PATH != 0 => "path",
            0 => "r",
            1 => "w",
            _ => "rw",
        }
    }

    /// As open(2) spells them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let mut bits = self.bits;
        let named = NAMES.iter().filter_map(move |&(bit, name)| {
            if bits & bit != bit {
                return None;
            }
            bits &= !bit;
            Some(name)
        });
        named.chain(self.cloexec.then_some("O_CLOEXEC"))
    }
}
