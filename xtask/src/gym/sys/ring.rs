//! A ring of `io_uring` that performs one operation at a time.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use io_uring::{IoUring, opcode, squeue, types};

/// A ring with room for a few operations.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// Sets the ring up; it takes one descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        IoUring::new(4).map(Self)
    }

    /// Opens `/dev/null`; the number the completion carries, a negative errno if it failed.
    pub(crate) fn openat(&mut self) -> io::Result<i32> {
        let at = types::Fd(libc::AT_FDCWD);
        self.complete(&opcode::OpenAt::new(at, c"/dev/null".as_ptr()).build())
    }

    /// Accepts a connection; the number the completion carries, a negative errno if it failed.
    pub(crate) fn accept(&mut self, listener: BorrowedFd) -> io::Result<i32> {
        let listener = types::Fd(listener.as_raw_fd());
        self.complete(&opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut()).build())
    }

    /// Registers a table of `count` places for files, all of them empty.
    pub(crate) fn register_empty_files(&self, count: usize) -> io::Result<()> {
        self.0.submitter().register_files(&vec![-1; count])
    }

    /// Submits one entry and waits for its completion.
    fn complete(&mut self, entry: &squeue::Entry) -> io::Result<i32> {
        // SAFETY: the entries built above point to static strings or to nothing.
        unsafe { self.0.submission().push(entry) }.map_err(io::Error::other)?;
        self.0.submit_and_wait(1)?;
        let completion = self.0.completion().next();
        completion
            .map(|entry| entry.result())
            .ok_or_else(|| io::Error::other("no completion"))
    }
}
