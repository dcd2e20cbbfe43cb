//! What the reader process is asked and answers: a datagram each, over a socket that only the two have.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use fdtrace_common::{
    python::{PythonFrame, PythonLayout},
    stack::REGISTERS,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::{imports::Found, python::NotRead, stack::Frame, unwind::Unwound};

/// Bytes of a message: below what a socket's buffer takes by default (`net.core.wmem_default`).
const MESSAGE_MAX: usize = 192 << 10;
/// Mappings in a message.
pub(in super::super) const MAPPINGS: usize = 1_024;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A file, with its `O_PATH` fd. Not answered.
    Module(u32),
    /// Mappings of a process, by the number that it has here. Answered after the last ones.
    Image {
        key: u32,
        mappings: Vec<Mapped>,
        is_last: bool,
    },
    /// A stack of that process, whose bytes are behind.
    Unwind {
        key: u32,
        registers: [u64; REGISTERS],
    },
    /// Where a process had a program's code, which ended there.
    Code { module: u32, end_code: u64 },
    /// The functions at one of a file's addresses.
    Names { module: u32, address: u64 },
    /// Where the interpreter of such a process, which is in one of these files, keeps its frames; with its memory as an
    /// fd.
    Interpreter {
        key: u32,
        modules: Vec<u32>,
        thread_pointer: u64,
    },
    /// The functions of frames of that interpreter.
    Functions { key: u32, frames: Vec<PythonFrame> },
    /// Whether a file uses select, with its `O_PATH` fd.
    Imports,
}

/// A mapping of code: where, from where in the file, and which.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Mapped {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) module: Option<u32>,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What each mapping's addresses differ by from its file's; `None`: it is in no ELF file's code.
    Biases(Vec<Option<u64>>),
    Unwound(Unwound),
    /// Where each part begins and ends, and where in the file it begins.
    Code(Vec<(u64, u64, u64)>),
    /// The innermost first, without the file.
    Names(Vec<Frame>),
    Interpreter(Result<PythonLayout, NotRead>),
    /// The innermost first; `None`: no interpreter of that process is known.
    Functions(Option<Vec<Frame>>),
    /// `None`: it is no ELF file whose tables are within bounds.
    Imports(Option<Found>),
}

/// A message, bytes behind it, and an fd with it.
pub(super) type Received<'a, T> = (T, &'a [u8], Option<OwnedFd>);

/// Where messages are received.
pub(super) struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; MESSAGE_MAX].into())
    }
}

/// Sends a message. Does not wait.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    behind: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    if text.len() + behind.len() + 4 > MESSAGE_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let length = length.to_le_bytes();
    let parts = [&length[..], &text, behind].map(IoSlice::new);
    sendmsg(
        socket,
        &parts,
        &mut control,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?;
    Ok(())
}

impl Buffer {
    /// Waits for a message; `None`: nobody is there any more.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> io::Result<Option<Received<'_, T>>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut self.0)];
        let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.into_iter().next();
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let bytes = self.0.get(..received.bytes).ok_or_else(invalid)?;
        let (length, rest) = bytes.split_first_chunk().ok_or_else(invalid)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, behind) = rest.split_at_checked(length).ok_or_else(invalid)?;
        Ok(Some((serde_json::from_slice(text)?, behind, fd)))
    }
}
