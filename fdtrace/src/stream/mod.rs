//! From the kernel's bytes to records: the ring, its decoding, and the clock they are stamped with.

pub mod clock;
pub mod decode;
pub mod files;
pub mod record;
pub mod recording;
pub mod ring;
pub mod timeline;
