//! Which limit was hit, and whether the process was told.

use fdtrace_common::alarm::{
    CALL_IO_URING, HOOK_ALLOC_FD, HOOK_ALLOC_FILE, HOOK_DUP_FD, HOOK_DUP3, HOOK_FILE_SERVER,
    HOOK_OWN_LIMIT, HOOK_REPLACE, HOOK_RING_FILE, HOOK_SYS_EXIT, HOOK_UNIX_SOCKET,
};
use serde::Serialize;

use crate::{
    ground::{call, host::Host},
    stream::decode::Alarm,
};

/// The limit that a call ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// The process's soft `RLIMIT_NOFILE`.
    RlimitNofile,
    /// `fs.nr_open`, below the process's limit or its table's size.
    NrOpen,
    /// The size of a table as such: no kernel makes one that holds the number.
    TableSize,
    /// fs.file-max, the host's.
    FileMax,
    /// Twice fs.file-max unix sockets on the host.
    UnixSockets,
    /// `F_DUPFD` asked for a number above those that are free.
    DupfdMinimum,
    /// `fs.inotify.max_user_instances`.
    InotifyInstances,
    /// `fs.fanotify.max_user_groups`.
    FanotifyGroups,
    /// `RLIMIT_MSGQUEUE`.
    MqueueBytes,
    /// fs.pipe-user-pages-hard.
    PipePages,
    /// The size of `io_uring`'s table of registered files.
    IoUringFiles,
    /// A file server's own limit (FUSE, CIFS), passed on.
    FileServer,
    /// Something else that is no fd limit.
    Other,
}

impl Cause {
    /// Is it a limit on file descriptors? The others use the same errno for something else.
    #[must_use]
    pub fn is_fd_limit(self) -> bool {
        matches!(
            self,
            Self::RlimitNofile
                | Self::NrOpen
                | Self::TableSize
                | Self::FileMax
                | Self::DupfdMinimum
        )
    }
}

/// How an exhaustion was kept from the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Silent {
    /// recvmsg succeeded with `MSG_CTRUNC`; the passed files are gone.
    MsgCtrunc,
    /// Only the completion queue entry says so.
    IoUringCqe,
    /// dup2 or dup3 said EBADF.
    Dup2Ebadf,
    /// The sender of a binder transaction was told that it failed.
    Binder,
    /// A seccomp supervisor was told that it could not put a file into the process.
    SeccompAddfd,
}

impl Host {
    /// The host is out of files, or so near that the kernel's per-CPU counting hides it.
    ///
    /// The kernel fails a call by the exact sum, and tells an inexact one: each CPU may have counted
    /// `percpu_counter_batch` files for itself, which is 32 or twice the number of CPUs.
    fn is_out_of_files(self) -> bool {
        match (self.files, self.file_max) {
            (Some(files), Some(file_max)) => {
                let slack = (file_max / 16).max(64);
                files.saturating_add(slack) >= file_max
            }
            _ => true,
        }
    }

    /// There are more than twice `fs.file-max` files, as root may have: so many unix sockets, which have a file each,
    /// is more than the kernel makes (`unix_create1`, `net/unix/af_unix.c`), and it looks at that first.
    fn may_be_out_of_unix_sockets(self) -> bool {
        match (self.files, self.file_max) {
            (Some(files), Some(file_max)) => files / 2 >= file_max,
            _ => false,
        }
    }
}

/// `BINDER_WRITE_READ`, the one ioctl in which binder receives files.
const BINDER_WRITE_READ: u32 = 0xc030_6201;
/// fcntl's `F_DUPFD` and `F_DUPFD_CLOEXEC`.
const F_DUPFD: [u32; 2] = [0, 1030];
/// socket's and socketpair's first argument for unix sockets (include/linux/socket.h).
const AF_UNIX: u32 = 1;
/// clone's `CLONE_PIDFD`.
const CLONE_PIDFD: u32 = 0x1000;
const EBADF: u32 = 9;
const ENFILE: u32 = 23;
/// Slots in the largest table. The kernel rounds a table's size up to a power of two, and makes none whose pointers
/// take more than `INT_MAX` bytes (`alloc_fdtable` in fs/file.c: EMFILE since 6.17, which stable kernels have as
/// well; before, ENOMEM).
pub const TABLE_SLOTS: u32 = 1 << 27;

/// Decides the cause from what the hook saw. The host is looked at only where that is not enough.
pub fn cause(alarm: &Alarm, host: impl FnOnce() -> Host) -> Cause {
    match alarm.key.hook {
        HOOK_ALLOC_FD => number_refused(alarm),
        HOOK_ALLOC_FILE => Cause::FileMax,
        HOOK_DUP3 => target_refused(alarm),
        HOOK_OWN_LIMIT => own_limit(&call::name(alarm.key.call)),
        HOOK_FILE_SERVER => Cause::FileServer,
        HOOK_REPLACE if alarm.key.errno == EBADF => Cause::RlimitNofile,
        HOOK_DUP_FD | HOOK_REPLACE => Cause::NrOpen,
        HOOK_UNIX_SOCKET => Cause::UnixSockets,
        HOOK_RING_FILE => Cause::IoUringFiles,
        HOOK_SYS_EXIT => from_syscall(alarm, host),
        _ => Cause::Other,
    }
}

/// Decides whether the process was told.
#[must_use]
pub fn silent(alarm: &Alarm) -> Option<Silent> {
    let name = call::name(alarm.key.call);
    match alarm.key.hook {
        HOOK_REPLACE => Some(Silent::SeccompAddfd),
        HOOK_ALLOC_FD if alarm.by_supervisor => Some(Silent::SeccompAddfd),
        HOOK_ALLOC_FD | HOOK_ALLOC_FILE | HOOK_FILE_SERVER | HOOK_UNIX_SOCKET | HOOK_RING_FILE
            if alarm.key.call & CALL_IO_URING != 0 =>
        {
            Some(Silent::IoUringCqe)
        }
        HOOK_ALLOC_FD if name == "recvmsg" || name.starts_with("recvmmsg") => {
            Some(Silent::MsgCtrunc)
        }
        HOOK_ALLOC_FD if name == "ioctl" && argument(alarm, 1) == BINDER_WRITE_READ => {
            Some(Silent::Binder)
        }
        HOOK_DUP3 => Some(Silent::Dup2Ebadf),
        HOOK_SYS_EXIT if is_dup2(&name) => Some(Silent::Dup2Ebadf),
        _ => None,
    }
}

/// The fd that files were to be received by, where some were dropped for want of numbers.
#[must_use]
pub fn receives_by(alarm: &Alarm) -> Option<u32> {
    (silent(alarm) == Some(Silent::MsgCtrunc)).then(|| argument(alarm, 0))
}

fn is_dup2(name: &str) -> bool {
    name == "dup2" || name == "dup3"
}

/// `alloc_fd` failed (fs/file.c): there was no free number below its `end`, or the table could not
/// grow to the number that it found.
///
/// It can only have looked at every number below `end` in a table at least that large; in a smaller
/// one it found a number past the table, and growing was refused: because of `fs.nr_open`, or because no table is
/// that large.
fn number_refused(alarm: &Alarm) -> Cause {
    if alarm.max_fds < alarm.key.limit {
        growing_refused(least_number(alarm).max(alarm.max_fds))
    } else if least_number(alarm) > 0 && alarm.used.is_some_and(|used| used < alarm.key.limit) {
        Cause::DupfdMinimum
    } else {
        Cause::RlimitNofile
    }
}

/// The table could not grow to hold this number, which is below the process's limit. Past the largest table there
/// is, a higher `fs.nr_open` does not help.
fn growing_refused(number: u32) -> Cause {
    if number >= TABLE_SLOTS {
        Cause::TableSize
    } else {
        Cause::NrOpen
    }
}

/// An argument as the kernel takes it where it is an `int`: the upper half of the register is what
/// the caller happened to leave there.
fn argument(alarm: &Alarm, index: usize) -> u32 {
    let lower = alarm.arguments[index] & u64::from(u32::MAX);
    u32::try_from(lower).unwrap_or(u32::MAX)
}

/// The smallest number that the call accepts.
fn least_number(alarm: &Alarm) -> u32 {
    let is_fcntl = call::name(alarm.key.call).starts_with("fcntl");
    if is_fcntl && F_DUPFD.contains(&argument(alarm, 1)) {
        argument(alarm, 2)
    } else {
        0
    }
}

/// dup2 or dup3 refused its target.
fn target_refused(alarm: &Alarm) -> Cause {
    let target = argument(alarm, 1);
    if u64::from(target) >= alarm.soft {
        Cause::RlimitNofile
    } else {
        growing_refused(target)
    }
}

/// A call failed for a reason of its own.
fn own_limit(name: &str) -> Cause {
    match name {
        "inotify_init" | "inotify_init1" => Cause::InotifyInstances,
        "fanotify_init" => Cause::FanotifyGroups,
        "mq_open" => Cause::MqueueBytes,
        "io_uring_register" => Cause::IoUringFiles,
        "pipe" | "pipe2" => Cause::PipePages,
        _ => Cause::Other,
    }
}

/// Only the call's result is known, and the table as it was when the call had ended.
fn from_syscall(alarm: &Alarm, host: impl FnOnce() -> Host) -> Cause {
    let name = call::name(alarm.key.call);
    if is_dup2(&name) {
        return target_refused(alarm);
    }
    if alarm.key.errno == ENFILE {
        let host = host();
        return match &*name {
            "pipe" | "pipe2" if !host.is_out_of_files() => Cause::PipePages,
            "socket" | "socketpair"
                if argument(alarm, 0) == AF_UNIX && host.may_be_out_of_unix_sockets() =>
            {
                Cause::UnixSockets
            }
            // It makes the other end's socket, and asks for no file.
            "connect" => Cause::UnixSockets,
            _ => Cause::FileMax,
        };
    }
    if copies_table(alarm, &name) {
        return Cause::NrOpen;
    }
    match fullness(alarm, &name) {
        Fullness::AtLimit => Cause::RlimitNofile,
        Fullness::AtSize => Cause::NrOpen,
        Fullness::Room => match &*name {
            "clone" | "clone3" => Cause::NrOpen,
            "fcntl" | "fcntl64" if least_number(alarm) > 0 => number_refused(alarm),
            "open" | "openat" | "openat2" | "creat" => Cause::FileServer,
            name => own_limit(name),
        },
    }
}

/// Does the call copy the whole table, and ask for no number? Then `RLIMIT_NOFILE` is not looked at.
///
/// clone does both with `CLONE_PIDFD`; what clone3 was told lies in memory that no record carries.
fn copies_table(alarm: &Alarm, name: &str) -> bool {
    match name {
        "fork" | "vfork" | "unshare" | "execve" | "execveat" | "close_range" => true,
        "clone" => argument(alarm, 0) & CLONE_PIDFD == 0,
        _ => false,
    }
}

/// How full a table is, for a call that wanted a number of it.
enum Fullness {
    /// It has no number left below the process's limit.
    AtLimit,
    /// It has none left at its present size, which is below the limit.
    AtSize,
    /// It has room: it was not the table that made the call fail.
    Room,
}

fn fullness(alarm: &Alarm, name: &str) -> Fullness {
    let (soft, size) = (alarm.soft, u64::from(alarm.max_fds));
    let Some(used) = alarm.used.map(u64::from) else {
        // Too large to be counted. A number past its end would have been free, below the limit.
        let has_own_limit = own_limit(name) != Cause::Other;
        return if size >= soft {
            Fullness::AtLimit
        } else if has_own_limit {
            Fullness::Room
        } else {
            Fullness::AtSize
        };
    };
    // A call that wants two numbers and gets one has put it back by now.
    let wanted = if matches!(name, "pipe" | "pipe2" | "socketpair") {
        2
    } else {
        1
    };
    if used + wanted + put_back_since(alarm, name) > soft {
        Fullness::AtLimit
    } else if used + wanted > size {
        Fullness::AtSize
    } else {
        Fullness::Room
    }
}

/// How many numbers other threads may have given back between the failure and the count.
///
/// A call that fails for other reasons too is not given the benefit of that doubt.
fn put_back_since(alarm: &Alarm, name: &str) -> u64 {
    match own_limit(name) {
        Cause::Other if least_number(alarm) == 0 => (alarm.soft / 16).min(16),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
