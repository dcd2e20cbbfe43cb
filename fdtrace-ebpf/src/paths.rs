//! Paths that the kernel keeps as linked names: the program's file and its cgroup.
//!
//! `bpf_d_path` is not allowed at the hooks that see an exhaustion, and the process may be gone
//! before anybody could read /proc; so the names are walked here, bounded, from leaf to root.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use fdtrace_common::alarm::{COMPONENT_MAX, PATH_DEPTH, PATH_FILL, Path};

use crate::kernel::{Address, member, offset};

/// Writes the path of the task's executable as its mount namespace sees it.
#[inline(always)]
pub(crate) fn executable(task: Address, path: *mut Path) {
    let mm: Address = member(task, &offset::TASK_MM);
    let file: Address = member(mm, &offset::MM_EXE_FILE);
    let mut dentry: Address = member(file, &offset::FILE_DENTRY);
    let mut mount: Address = member(file, &offset::FILE_MNT);
    let mut length = 0;
    let mut truncated = 1;
    for _ in 0..PATH_DEPTH {
        if dentry == 0 {
            truncated = 0;
            break;
        }
        if dentry == member::<Address>(mount, &offset::VFSMOUNT_ROOT) {
            // A mount's root is named by the directory that it covers (`prepend_path`, fs/d_path.c).
            let vfsmount = u64::from(offset::MOUNT_VFSMOUNT.load());
            let covering = mount - vfsmount;
            let parent: Address = member(covering, &offset::MOUNT_PARENT);
            if parent == 0 || parent == covering {
                truncated = 0;
                break;
            }
            dentry = member(covering, &offset::MOUNT_MOUNTPOINT);
            mount = parent + vfsmount;
            continue;
        }
        let parent: Address = member(dentry, &offset::DENTRY_PARENT);
        if parent == dentry {
            truncated = 0;
            break;
        }
        let name: Address = member(dentry, &offset::DENTRY_NAME);
        if length >= PATH_FILL {
            break;
        }
        length += component(path, length, name);
        dentry = parent;
    }
    finish(path, length, truncated);
}

/// Writes the path of the task's cgroup in the v2 hierarchy.
#[inline(always)]
pub(crate) fn cgroup(task: Address, path: *mut Path) {
    let set: Address = member(task, &offset::TASK_CGROUPS);
    let group: Address = member(set, &offset::CSS_SET_CGROUP);
    let mut node: Address = member(group, &offset::CGROUP_NODE);
    let mut length = 0;
    let mut truncated = 1;
    for _ in 0..PATH_DEPTH {
        let parent: Address = member(node, &offset::NODE_PARENT);
        if parent == 0 {
            truncated = 0;
            break;
        }
        let name: Address = member(node, &offset::NODE_NAME);
        if length >= PATH_FILL {
            break;
        }
        length += component(path, length, name);
        node = parent;
    }
    finish(path, length, truncated);
}

/// Copies one name to `at`, which is below [`PATH_FILL`]; the bytes written, its NUL included.
#[inline(always)]
fn component(path: *mut Path, at: usize, name: Address) -> usize {
    // SAFETY: `at` is below PATH_FILL, and COMPONENT_MAX bytes follow from there in any case.
    let written = unsafe {
        let target = (&raw mut (*path).bytes)
            .cast::<u8>()
            .add(at & (PATH_FILL - 1));
        bpf_probe_read_kernel_str(target.cast(), COMPONENT_MAX as u32, name as *const _)
    };
    if written <= 0 || written > COMPONENT_MAX as i64 {
        0
    } else {
        written as usize
    }
}

#[inline(always)]
fn finish(path: *mut Path, length: usize, truncated: u32) {
    // SAFETY: `path` lies in a record that this program has reserved.
    unsafe {
        (&raw mut (*path).length).write(length as u32);
        (&raw mut (*path).truncated).write(truncated);
    }
}
