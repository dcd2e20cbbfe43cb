//! Standard output as it is found: closed, or shared with somebody who does not wait for it.
//!
//! Was it open when fdtrace was started? Rust's runtime opens /dev/null in place of a closed stdout before `main`, and everything written
//! would vanish without an error. So it is asked before the runtime starts.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// An error where fdtrace was started with stdout closed (`>&-`).
pub(super) fn check() -> Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        bail!("stdout is closed, nothing could be reported: redirect it to a file or a pipe");
    }
    Ok(())
}

/// An output that is waited for where it is full, whatever its file status flags say. `O_NONBLOCK` belongs to
/// all who share a pipe or terminal: some set it on their own stdin or stderr, and a full pipe is then an error
/// to everybody's writes (EAGAIN).
pub(super) struct Waiting<T>(T);

/// Standard output.
pub(super) fn waiting() -> Waiting<io::Stdout> {
    Waiting(io::stdout())
}

impl<T: AsFd> Waiting<T> {
    fn wait_for(&mut self, mut step: impl FnMut(&mut T) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match step(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Where it cannot be waited for, the next write says why.
                    let _: Result<usize, Errno> =
                        poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
                }
                outcome => return outcome,
            }
        }
    }
}

impl<T: Write + AsFd> Write for Waiting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for(|output| output.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait_for(|output| output.flush().map(|()| 0)).map(drop)
    }
}

extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(io::stdout()).is_err();
    CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Called by the C runtime before `main`.
#[expect(unsafe_code, reason = "a section that the C runtime calls into")]
// SAFETY: the section holds pointers to functions without arguments that matter; `look` only asks
// the kernel about one descriptor and stores a flag.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use super::*;

    #[test]
    fn a_full_pipe_that_does_not_block_is_waited_for() {
        let (before, after) = (vec![0; 1 << 20], vec![1; 1 << 20]);
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut full = writer.try_clone().unwrap();
        let refused = full.write_all(&before).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let written = thread::spawn(move || {
            drop(full);
            let mut output = Waiting(writer);
            output.write_all(&after).and_then(|()| output.flush())
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        written.join().unwrap().unwrap();
        read.retain(|byte| *byte == 1);
        assert_eq!(read.len(), 1 << 20);
    }
}
