//! What the kernel programs and the user side share: wire records and constants, nothing else.
#![no_std]
