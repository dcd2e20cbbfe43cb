//! Which limit was hit, in words that name what to look at.

use crate::{
    diagnose::cause::{Cause, Silent},
    report::fact::Exhausted,
};

/// The cause.
pub(super) fn cause(exhausted: &Exhausted) -> &'static str {
    match exhausted.cause {
        Cause::RlimitNofile => "soft limit reached (RLIMIT_NOFILE)",
        Cause::NrOpen => "fs.nr_open reached",
        Cause::TableSize => "the number is larger than any fd table",
        Cause::FileMax => "fs.file-max reached, the host's limit",
        Cause::DupfdMinimum => "F_DUPFD wants a number above those that are free",
        Cause::UnixSockets => "NO FD LIMIT: the host has twice fs.file-max unix sockets",
        Cause::InotifyInstances => "NO FD LIMIT: fs.inotify.max_user_instances reached",
        Cause::FanotifyGroups => "NO FD LIMIT: fs.fanotify.max_user_groups reached",
        Cause::MqueueBytes => "NO FD LIMIT: RLIMIT_MSGQUEUE reached",
        Cause::PipePages => "NO FD LIMIT: fs.pipe-user-pages-hard reached",
        Cause::IoUringFiles => "NO FD LIMIT: the ring takes no more registered files",
        Cause::FileServer => "NO FD LIMIT of this process: the file system's server ran out",
        Cause::Other => "NO FD LIMIT: fds are to spare",
    }
}

/// How it was kept from the process.
pub(super) fn silent(silent: Silent) -> &'static str {
    match silent {
        Silent::MsgCtrunc => "recvmsg set MSG_CTRUNC and dropped files; it returned no error",
        Silent::IoUringCqe => "only io_uring's completion says so",
        Silent::Dup2Ebadf => "the call returned EBADF",
        Silent::Binder => "the sender's transaction failed; the process was not told",
        Silent::SeccompAddfd => "its seccomp supervisor's ioctl failed; the process was not told",
    }
}
