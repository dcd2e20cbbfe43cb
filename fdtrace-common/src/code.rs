//! The instructions of a kernel function, as `read_code` hands them over.

/// Bytes that are read at most at once.
pub const CODE_SIZE: usize = 1_024;

/// Functions of which it can be told at most where they lie.
pub const CODE_PLACES_SIZE: u32 = 4;
