//! Every kernel struct member that a program reads.
//!
//! Each row becomes a read-only global of that name in the kernel object, holding the member's byte
//! offset. The user side resolves all rows from the running kernel's BTF and writes them in before
//! loading, so that the verifier sees constants. A member that this kernel does not have becomes
//! [`ABSENT`], and the code behind it is dead.

/// Value of a field global whose member does not exist on this kernel.
pub const ABSENT: u32 = u32::MAX;

/// Calls `$with!` with all rows: `NAME: "struct", "path" | "older or newer path";`.
///
/// Paths are alternatives, the first that exists is taken. Rows marked `optional` may be absent.
#[macro_export]
macro_rules! kernel_fields {
    ($with:ident) => {
        $with! {
            required TASK_FILES: "task_struct", "files";
            required TASK_SIGNAL: "task_struct", "signal";
            required TASK_TGID: "task_struct", "tgid";
            required TASK_PID: "task_struct", "pid";
            required TASK_COMM: "task_struct", "comm";
            required TASK_FLAGS: "task_struct", "flags";
            required TASK_GROUP_LEADER: "task_struct", "group_leader";
            required TASK_START: "task_struct", "start_boottime" | "real_start_time";
            required TASK_MM: "task_struct", "mm";
            required TASK_STACK: "task_struct", "stack";
            // x86 only: TS_COMPAT tells a 32-bit syscall.
            optional TASK_STATUS: "task_struct", "thread_info.status";
            // x86-64 only: where the thread's C library keeps what is its own.
            optional TASK_THREAD_POINTER: "task_struct", "thread.fsbase";
            optional TASK_CGROUPS: "task_struct", "cgroups";
            required TASK_PARENT: "task_struct", "real_parent";
            required SIGNAL_LIVE: "signal_struct", "live";
            required SIGNAL_NOFILE_SOFT: "signal_struct", "rlim[7].rlim_cur";
            required SIGNAL_NOFILE_HARD: "signal_struct", "rlim[7].rlim_max";
            required FILES_COUNT: "files_struct", "count";
            required FILES_FDT: "files_struct", "fdt";
            required FDT_MAX_FDS: "fdtable", "max_fds";
            required FDT_FD: "fdtable", "fd";
            required FDT_OPEN_FDS: "fdtable", "open_fds";
            required REGS_CALL: "pt_regs", "orig_ax" | "syscallno";
            required REGS_ARG0: "pt_regs", "di" | "regs[0]";
            required REGS_ARG1: "pt_regs", "si" | "regs[1]";
            required REGS_ARG2: "pt_regs", "dx" | "regs[2]";
            optional REGS_ARG3: "pt_regs", "r10" | "regs[3]";
            optional REGS_IP: "pt_regs", "ip" | "pc";
            optional REGS_SP: "pt_regs", "sp";
            optional REGS_BP: "pt_regs", "bp" | "regs[29]";
            optional REGS_OTHER0: "pt_regs", "bx" | "regs[30]";
            optional REGS_OTHER1: "pt_regs", "r12";
            optional REGS_OTHER2: "pt_regs", "r13";
            optional REGS_OTHER3: "pt_regs", "r14";
            optional REGS_OTHER4: "pt_regs", "r15";
            optional REGS_COMPAT_ARG0: "pt_regs", "bx" | "regs[0]";
            optional REGS_COMPAT_ARG1: "pt_regs", "cx" | "regs[1]";
            optional MM_EXE_FILE: "mm_struct", "exe_file";
            optional MM_START_STACK: "mm_struct", "start_stack";
            optional MM_END_CODE: "mm_struct", "end_code";
            optional FILE_DENTRY: "file", "f_path.dentry" | "__f_path.dentry";
            optional FILE_MNT: "file", "f_path.mnt" | "__f_path.mnt";
            optional DENTRY_PARENT: "dentry", "d_parent";
            optional DENTRY_NAME: "dentry", "d_name.name" | "__d_name.name";
            optional DENTRY_SHORT_NAME: "dentry", "d_iname" | "d_shortname";
            optional VFSMOUNT_ROOT: "vfsmount", "mnt_root";
            optional MOUNT_VFSMOUNT: "mount", "mnt";
            optional MOUNT_PARENT: "mount", "mnt_parent";
            optional MOUNT_MOUNTPOINT: "mount", "mnt_mountpoint";
            optional FDT_CLOSE_ON_EXEC: "fdtable", "close_on_exec";
            optional TASK_CRED: "task_struct", "real_cred";
            optional CRED_UID: "cred", "uid";
            optional CRED_EFFECTIVE: "cred", "cap_effective";
            optional CRED_USER_NS: "cred", "user_ns";
            optional USER_NS_LEVEL: "user_namespace", "level";
            optional FILE_INODE: "file", "f_inode";
            optional FILE_FLAGS: "file", "f_flags";
            optional FILE_PATH: "file", "f_path" | "__f_path";
            optional FILE_PRIVATE: "file", "private_data";
            optional INODE_MODE: "inode", "i_mode";
            optional INODE_NUMBER: "inode", "i_ino";
            optional INODE_LINKS: "inode", "i_nlink";
            optional INODE_RDEV: "inode", "i_rdev";
            optional INODE_SUPER: "inode", "i_sb";
            optional SUPER_MAGIC: "super_block", "s_magic";
            optional SUPER_DEV: "super_block", "s_dev";
            optional SOCKET_TYPE: "socket", "type";
            optional SOCKET_SOCK: "socket", "sk";
            optional SOCKET_INODE: "socket_alloc", "vfs_inode";
            optional SOCK_FAMILY: "sock", "__sk_common.skc_family";
            optional SOCK_STATE: "sock", "__sk_common.skc_state";
            optional SOCK_SHUTDOWN: "sock", "sk_shutdown";
            optional SOCK_PORT: "sock", "__sk_common.skc_num";
            optional SOCK_REMOTE_PORT: "sock", "__sk_common.skc_dport";
            optional SOCK_LOCAL4: "sock", "__sk_common.skc_rcv_saddr";
            optional SOCK_REMOTE4: "sock", "__sk_common.skc_daddr";
            optional SOCK_LOCAL6: "sock", "__sk_common.skc_v6_rcv_saddr";
            optional SOCK_REMOTE6: "sock", "__sk_common.skc_v6_daddr";
            optional SOCK_SOCKET: "sock", "sk_socket";
            optional UNIX_ADDRESS: "unix_sock", "addr";
            optional UNIX_PEER: "unix_sock", "peer";
            optional ADDRESS_LENGTH: "unix_address", "len";
            optional ADDRESS_NAME: "unix_address", "name";
            optional TASK_SECCOMP_FILTER: "task_struct", "seccomp.filter";
            optional FILTER_PREVIOUS: "seccomp_filter", "prev";
            // The second one where mutexes are real-time ones (PREEMPT_RT).
            optional FILTER_LOCK_OWNER: "seccomp_filter",
                "notify_lock.owner" | "notify_lock.rtmutex.owner";
            optional CSS_SET_CGROUP: "css_set", "dfl_cgrp";
            optional CGROUP_NODE: "cgroup", "kn";
            optional CGROUP_ROOT: "cgroup", "root";
            optional NODE_ID: "kernfs_node", "id";
            optional NODE_NAME: "kernfs_node", "name";
            optional NODE_PARENT: "kernfs_node", "__parent" | "parent";
        }
    };
}
