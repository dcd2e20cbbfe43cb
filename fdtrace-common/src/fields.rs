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
            optional TASK_CGROUPS: "task_struct", "cgroups";
            required SIGNAL_LIVE: "signal_struct", "live";
            required SIGNAL_NOFILE_SOFT: "signal_struct", "rlim[7].rlim_cur";
            required SIGNAL_NOFILE_HARD: "signal_struct", "rlim[7].rlim_max";
            required FILES_FDT: "files_struct", "fdt";
            required FDT_MAX_FDS: "fdtable", "max_fds";
            required FDT_FD: "fdtable", "fd";
            required FDT_OPEN_FDS: "fdtable", "open_fds";
            required REGS_CALL: "pt_regs", "orig_ax" | "syscallno";
            required REGS_ARG0: "pt_regs", "di" | "regs[0]";
            required REGS_ARG1: "pt_regs", "si" | "regs[1]";
            required REGS_ARG2: "pt_regs", "dx" | "regs[2]";
            optional REGS_COMPAT_ARG0: "pt_regs", "bx" | "regs[0]";
            optional REGS_COMPAT_ARG1: "pt_regs", "cx" | "regs[1]";
            optional MM_EXE_FILE: "mm_struct", "exe_file";
            optional FILE_DENTRY: "file", "f_path.dentry" | "__f_path.dentry";
            optional FILE_MNT: "file", "f_path.mnt" | "__f_path.mnt";
            optional DENTRY_PARENT: "dentry", "d_parent";
            optional DENTRY_NAME: "dentry", "d_name.name" | "__d_name.name";
            optional VFSMOUNT_ROOT: "vfsmount", "mnt_root";
            optional MOUNT_VFSMOUNT: "mount", "mnt";
            optional MOUNT_PARENT: "mount", "mnt_parent";
            optional MOUNT_MOUNTPOINT: "mount", "mnt_mountpoint";
            optional CSS_SET_CGROUP: "css_set", "dfl_cgrp";
            optional CGROUP_NODE: "cgroup", "kn";
            optional NODE_NAME: "kernfs_node", "name";
            optional NODE_PARENT: "kernfs_node", "__parent" | "parent";
        }
    };
}
