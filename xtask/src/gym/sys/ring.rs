//! A ring of `io_uring` that performs one operation at a time.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd},
    ptr,
};

use io_uring::{IoUring, opcode, squeue, types};

use super::owned;

/// A ring with room for a few operations.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// Sets the ring up; it takes one descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        IoUring::new(4).map(Self)
    }

    /// The ring's own number.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
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

    /// Opens `/dev/null`; the new file.
    pub(crate) fn openat_owned(&mut self) -> io::Result<OwnedFd> {
        self.openat().and_then(completed)
    }

    /// Accepts a connection; the new socket.
    pub(crate) fn accept_owned(&mut self, listener: BorrowedFd) -> io::Result<OwnedFd> {
        self.accept(listener).and_then(completed)
    }

    /// Closes a file.
    pub(crate) fn close(&mut self, file: OwnedFd) -> io::Result<()> {
        let number = types::Fd(file.into_raw_fd());
        let result = self.complete(&opcode::Close::new(number).build())?;
        check_completion(result).map(drop)
    }

    /// Opens `/dev/null` into the first place of a table of the ring's own, which is made for it.
    pub(crate) fn open_direct(&mut self) -> io::Result<()> {
        self.register_empty_files(1)?;
        let at = types::Fd(libc::AT_FDCWD);
        let place = types::DestinationSlot::try_from_slot_target(0)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let entry = opcode::OpenAt::new(at, c"/dev/null".as_ptr()).file_index(Some(place));
        let result = self.complete(&entry.build())?;
        check_completion(result).map(drop)
    }

    /// Opens `/dev/null` into a free place of the ring's own table; the place that the completion carries, a
    /// negative errno if there is none.
    pub(crate) fn open_into_own_table(&mut self) -> io::Result<i32> {
        let at = types::Fd(libc::AT_FDCWD);
        let entry = opcode::OpenAt::new(at, c"/dev/null".as_ptr());
        let place = types::DestinationSlot::auto_target();
        self.complete(&entry.file_index(Some(place)).build())
    }

    /// Passes the file in the first place to a free place of another ring's own table; what the completion carries.
    pub(crate) fn pass_file(&mut self, other: &Self) -> io::Result<i32> {
        let place = types::DestinationSlot::auto_target();
        let to = types::Fd(other.number());
        let entry = opcode::MsgRingSendFd::new(to, types::Fixed(0), place, 0);
        self.complete(&entry.build())
    }

    /// Gives the file in that place a number.
    pub(crate) fn install(&mut self) -> io::Result<OwnedFd> {
        let entry = opcode::FixedFdInstall::new(types::Fixed(0), 0).build();
        self.complete(&entry).and_then(completed)
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

/// A completion's result, which is a negative errno where the operation failed.
fn check_completion(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(result)
}

/// The file whose number a completion carries.
fn completed(result: i32) -> io::Result<OwnedFd> {
    owned::<RawFd>(check_completion(result)?)
}
