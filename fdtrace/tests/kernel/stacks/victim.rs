//! As `victim.c` in Rust, linked statically: opens a file, and ends with standard input.

use std::{fs::File, hint::black_box, io, io::Read, mem};

#[inline(never)]
fn leak_one(path: &str) -> io::Result<()> {
    mem::forget(File::open(path)?); // [leaks]
    Ok(())
}

#[inline(never)]
fn handle_request(path: &str) -> usize {
    let is_open = leak_one(path).is_ok(); // [handles]
    black_box(path).len() + usize::from(is_open)
}

fn main() {
    assert!(handle_request(black_box("/dev/null")) > 0); // [calls]
    let _ = io::stdin().read(&mut [0]);
}
