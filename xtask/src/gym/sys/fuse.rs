//! A file system whose server, like any server, can run out of descriptors: FUSE's protocol by hand.
//!
//! The messages are those of include/uapi/linux/fuse.h, which are the same on every architecture.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use super::{check, process};

/// The one file on it.
const NAME: &[u8] = b"file\0";
/// The root directory's number, which the protocol fixes.
const ROOT: u64 = 1;
/// The file's number.
const NODE: u64 = 2;

// Requests.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Size of what is before each request.
const HEADER: usize = 40;
/// The kernel insists on room for 8 KiB; requests of this size are never made.
const ROOM: usize = 64 * 1024;
/// A server that is asked nothing for so long ends, and with it the file system.
const PATIENCE_MS: i32 = 10_000;

/// Gives the process mounts of its own: what it mounts from here on nobody else sees.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings end in NUL, and null pointers are allowed for what is not used.
    check(unsafe {
        libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            ptr::null(),
            flags,
            ptr::null(),
        )
    })
    .map(drop)
}

/// Mounts a file system whose requests are read from `device`, an open `/dev/fuse`.
pub(crate) fn mount(device: &File, target: &CStr) -> io::Result<()> {
    let number = device.as_raw_fd();
    let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0\0");
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all strings end in NUL and outlive the call.
    check(unsafe {
        libc::mount(
            c"gym".as_ptr(),
            target.as_ptr(),
            c"fuse".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Takes a file system away from where it is mounted; its server ends when nobody uses it any more.
pub(crate) fn unmount(target: &CStr) -> io::Result<()> {
    // SAFETY: the string ends in NUL.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Answers requests until the file system is unmounted. All that opens fails with EMFILE.
pub(crate) fn serve(device: &mut File) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    loop {
        if !process::readable(device.as_fd(), PATIENCE_MS)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = match device.read(&mut room) {
            Ok(length) => length,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENODEV) => return Ok(()),
                // The request was taken back before it was read.
                Some(libc::ENOENT | libc::EINTR) => continue,
                _ => return Err(error),
            },
        };
        let request = &room[..length];
        let operation = u32::from_ne_bytes(field(request, 4)?);
        let unique: [u8; 8] = field(request, 8)?;
        let answer = match operation {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init()),
            LOOKUP if request.get(HEADER..) == Some(NAME) => Ok(entry()),
            LOOKUP => Err(libc::ENOENT),
            GETATTR => Ok(attributes_of(u64::from_ne_bytes(field(request, 16)?))),
            OPEN | OPENDIR | CREATE => Err(libc::EMFILE),
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let mut message = words(&[u32::try_from(16 + body.len()).unwrap_or(0)]);
        message.extend(error.to_ne_bytes());
        message.extend(unique);
        message.extend(body);
        device.write_all(&message)?;
    }
}

/// The bytes at a place in a request.
fn field<const SIZE: usize>(request: &[u8], at: usize) -> io::Result<[u8; SIZE]> {
    let bytes = request.get(at..).and_then(<[u8]>::first_chunk);
    bytes
        .copied()
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `fuse_init_out`: version 7.31, small writes, nothing optional.
fn init() -> Vec<u8> {
    let mut body = words(&[7, 31, 0, 0, 0, 4096, 1]);
    body.resize(64, 0);
    body
}

/// `fuse_entry_out`: the file, never to be remembered.
fn entry() -> Vec<u8> {
    let mut body = NODE.to_ne_bytes().to_vec();
    body.resize(40, 0);
    body.extend(attributes(NODE));
    body
}

/// `fuse_attr_out`, never to be remembered.
fn attributes_of(node: u64) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend(attributes(node));
    body
}

/// `fuse_attr` of the root directory or the file: empty, root's, from 1970.
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == ROOT {
        libc::S_IFDIR | 0o755
    } else {
        libc::S_IFREG | 0o644
    };
    let mut body = node.to_ne_bytes().to_vec();
    body.resize(60, 0);
    body.extend(words(&[mode, 1]));
    body.resize(88, 0);
    body
}
