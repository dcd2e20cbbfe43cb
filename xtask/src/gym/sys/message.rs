//! Descriptors sent in a message (`SCM_RIGHTS`).

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use super::{check, owned};

/// Room for one control message with one descriptor, aligned as the kernel wants its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// What `recvmsg` delivered.
pub(crate) struct Received {
    /// Bytes of ordinary data.
    pub(crate) bytes: usize,
    /// Whether the kernel says that control data did not fit (`MSG_CTRUNC`).
    pub(crate) truncated: bool,
    /// The descriptor, if one came.
    pub(crate) fd: Option<OwnedFd>,
}

/// Calls `body` with a message of one byte of data and `length` bytes of control data.
fn with_message<T>(
    length: usize,
    body: impl FnOnce(&mut libc::msghdr) -> io::Result<T>,
) -> io::Result<T> {
    let mut byte = 0u8;
    let mut control = Control([0; 64]);
    let mut data = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: the structure is plain data; null pointers stand for nothing.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = length;
    body(&mut message)
}

/// Bytes of control data that carry one descriptor.
fn room() -> usize {
    // SAFETY: arithmetic on a length only.
    (unsafe { libc::CMSG_SPACE(4) }) as usize
}

/// Sends `fd` along with one byte.
pub(crate) fn send(socket: BorrowedFd, fd: BorrowedFd) -> io::Result<()> {
    with_message(room(), |message| {
        // SAFETY: the control buffer is there and longer than a header.
        let header = unsafe { libc::CMSG_FIRSTHDR(message) };
        // SAFETY: arithmetic on a length only.
        let length = unsafe { libc::CMSG_LEN(4) } as usize;
        let filled = libc::cmsghdr {
            cmsg_len: length,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: the header lies in the control buffer, which is aligned for it.
        unsafe { header.write(filled) };
        // SAFETY: the header was just found in the buffer.
        let place = unsafe { libc::CMSG_DATA(header) }.cast::<[u8; 4]>();
        // SAFETY: the buffer has room for one number behind the header.
        unsafe { place.write(fd.as_raw_fd().to_ne_bytes()) };
        // SAFETY: the message and what it points to outlive the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) };
        check(i64::try_from(sent).map_err(io::Error::other)?).map(drop)
    })
}

/// Receives a message that may bring one descriptor.
pub(crate) fn receive(socket: BorrowedFd) -> io::Result<Received> {
    with_message(room(), |message| {
        // SAFETY: the message and what it points to outlive the call.
        let bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), message, 0) };
        let bytes = check(i64::try_from(bytes).map_err(io::Error::other)?)?;
        // SAFETY: the kernel has set the length of control data to what it wrote.
        let header = unsafe { libc::CMSG_FIRSTHDR(message) };
        let fd = if header.is_null() {
            None
        } else {
            // SAFETY: the header was just found in the buffer.
            let place = unsafe { libc::CMSG_DATA(header) }.cast::<[u8; 4]>();
            // SAFETY: the only control message asked for carries at least one number.
            let number = unsafe { place.read() };
            Some(owned(RawFd::from_ne_bytes(number))?)
        };
        Ok(Received {
            bytes: usize::try_from(bytes).map_err(io::Error::other)?,
            truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
            fd,
        })
    })
}

/// What a message with many descriptors has brought.
pub(crate) struct Arrived {
    /// Those that came.
    pub(crate) files: Vec<OwnedFd>,
    /// Some found no room.
    pub(crate) truncated: bool,
}

/// A control buffer for `count` descriptors, aligned for its header; how many of its bytes count.
fn buffer(count: usize) -> io::Result<(Vec<u64>, usize)> {
    let bytes = u32::try_from(count * size_of::<RawFd>()).map_err(io::Error::other)?;
    // SAFETY: arithmetic on a length only.
    let length = unsafe { libc::CMSG_LEN(bytes) } as usize;
    Ok((vec![0; length.div_ceil(8)], length))
}

/// Sends all of them along with one byte.
pub(crate) fn send_all(socket: BorrowedFd, files: &[BorrowedFd]) -> io::Result<()> {
    let (mut control, length) = buffer(files.len())?;
    with_message(0, |message| {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = length;
        // SAFETY: the control buffer is there and longer than a header.
        let header = unsafe { libc::CMSG_FIRSTHDR(message) };
        let filled = libc::cmsghdr {
            cmsg_len: length,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: the header lies in the control buffer, which is aligned for it.
        unsafe { header.write(filled) };
        // SAFETY: the header was just found in the buffer.
        let place = unsafe { libc::CMSG_DATA(header) }.cast::<[u8; 4]>();
        for (index, file) in files.iter().enumerate() {
            // SAFETY: the buffer was made for as many numbers.
            unsafe {
                place
                    .wrapping_add(index)
                    .write(file.as_raw_fd().to_ne_bytes());
            };
        }
        // SAFETY: the message and what it points to outlive the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) };
        check(i64::try_from(sent).map_err(io::Error::other)?).map(drop)
    })
}

/// Receives a message with room for so many descriptors.
pub(crate) fn receive_all(socket: BorrowedFd, room: usize, flags: i32) -> io::Result<Arrived> {
    let (mut control, length) = buffer(room)?;
    with_message(0, |message| {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = length;
        // SAFETY: the message and what it points to outlive the call.
        let bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), message, flags) };
        check(i64::try_from(bytes).map_err(io::Error::other)?)?;
        let truncated = message.msg_flags & libc::MSG_CTRUNC != 0;
        // SAFETY: the kernel has set the length of control data to what it wrote.
        let header = unsafe { libc::CMSG_FIRSTHDR(message) };
        if header.is_null() {
            let files = Vec::new();
            return Ok(Arrived { files, truncated });
        }
        // SAFETY: the header lies in the control buffer.
        let written = unsafe { (*header).cmsg_len };
        // SAFETY: arithmetic on a length only.
        let before = unsafe { libc::CMSG_LEN(0) } as usize;
        let count = written.saturating_sub(before) / size_of::<RawFd>();
        // SAFETY: the header was just found in the buffer.
        let place = unsafe { libc::CMSG_DATA(header) }.cast::<[u8; 4]>();
        let files = (0..count.min(room)).map(|index| {
            // SAFETY: the kernel has written so many numbers, and there was room for them.
            let number = unsafe { place.wrapping_add(index).read() };
            owned(RawFd::from_ne_bytes(number))
        });
        Ok(Arrived {
            files: files.collect::<Result<_, _>>()?,
            truncated,
        })
    })
}
