//! What the kernel counts for each program on a kprobe: calls that the probe did not see.
//!
//! A kretprobe needs an instance for each call that is under way, to remember where it returns to. The kernel makes
//! ten of them, or two for each CPU (`register_kretprobe` in kernel/kprobes.c). A call that finds none left is not
//! seen. It is counted, and so is a probe that is hit while another one runs on that CPU (`trace_kprobe_missed` in
//! `kernel/trace/trace_kprobe.c`). The link's information has had the count since 6.7.
//!
//! aya keeps its links to itself, so they are found among the process's own fds.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use log::debug;
use rustc_hash::FxHashSet;
use rustix::{
    io::Errno,
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};
use zerocopy::{FromZeros, IntoBytes};

/// What /proc calls the fd of a link.
const LINK: &str = "anon_inode:bpf_link";

/// `BPF_LINK_TYPE_PERF_EVENT` (include/uapi/linux/bpf.h).
const PERF_EVENT: u32 = 7;
/// `BPF_PERF_EVENT_KPROBE` and `BPF_PERF_EVENT_KRETPROBE`; kernels before 6.6 leave a 0 here.
const KPROBES: [u32; 2] = [3, 4];
/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO_BY_FD: usize = 15;

/// The first members of `struct bpf_link_info`, for a link of a perf event on a kprobe. What a kernel does not know
/// of it stays 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromZeros, IntoBytes)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    event: u32,
    event_padding: u32,
    name: u64,
    name_length: u32,
    offset: u32,
    address: u64,
    missed: u64,
}
const _: () = assert!(std::mem::offset_of!(LinkInfo, missed) == 48);

/// A link of this process's own, of a program on a kprobe.
#[derive(Debug)]
pub(super) struct KprobeLink {
    fd: OwnedFd,
    /// The program, by its id.
    pub(super) program: u32,
}

impl KprobeLink {
    /// Those of these programs, given by their ids; none where the kernel does not tell of them.
    pub(super) fn own(programs: &FxHashSet<u32>) -> Vec<Self> {
        links(programs).unwrap_or_else(|error| {
            debug!("links of programs on kprobes: {error}");
            Vec::new()
        })
    }

    /// Calls that were not seen since it was attached.
    pub(super) fn missed(&self) -> u64 {
        info(self.fd.as_raw_fd()).map_or(0, |info| info.missed)
    }
}

/// Copies of the fds of links, which stay whatever becomes of the fds. No other link is copied: that would keep its
/// program attached.
fn links(programs: &FxHashSet<u32>) -> Result<Vec<KprobeLink>, std::io::Error> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut links = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let is_link = fs::read_link(&path).is_ok_and(|target| target.as_os_str() == LINK);
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.parse::<RawFd>().ok());
        let Some((number, info)) = number
            .filter(|_| is_link)
            .and_then(|number| Some((number, info(number)?)))
        else {
            continue;
        };
        let is_kprobe = info.kind == PERF_EVENT && KPROBES.contains(&info.event);
        if !is_kprobe || !programs.contains(&info.program) {
            continue;
        }
        match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => links.push(KprobeLink {
                fd,
                program: info.program,
            }),
            Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(links)
}

#[expect(
    unsafe_code,
    reason = "bpf(2), of which neither aya nor rustix offers this"
)]
fn info(link: RawFd) -> Option<LinkInfo> {
    /// The members of `union bpf_attr` for it.
    #[repr(C)]
    struct Attributes {
        fd: i32,
        size: u32,
        info: u64,
    }
    let mut info = LinkInfo::new_zeroed();
    let attributes = Attributes {
        fd: link,
        size: u32::try_from(size_of::<LinkInfo>()).ok()?,
        info: (&raw mut info).addr() as u64,
    };
    let (attributes, size) = (&raw const attributes, size_of::<Attributes>());
    // SAFETY: the kernel reads the attributes, and writes no more of the information than there is room for.
    let outcome = unsafe {
        syscalls::syscall!(
            syscalls::Sysno::bpf,
            GET_INFO_BY_FD,
            attributes.addr(),
            size
        )
    };
    outcome.ok().map(|_| info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_link_is_passed_over() {
        let file = fs::File::open("/dev/null").unwrap();
        assert!(info(file.as_raw_fd()).is_none());
        assert!(
            KprobeLink::own(&FxHashSet::default()).is_empty(),
            "no test attaches any"
        );
    }
}
