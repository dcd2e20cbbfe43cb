//! Paths that the kernel keeps as linked names: the program's file and its cgroup.
//!
//! `bpf_d_path` is not allowed at the hooks that see an exhaustion, and the process may be gone
//! before anybody could read /proc; so the names are walked here, bounded, from leaf to root.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::alarm::{CGROUP_DEPTH, COMPONENT_SIZE, EXE_DEPTH, Path};

use crate::kernel::{Address, member, offset};

/// Zeroes to copy from: a path is cleared with one helper call.
#[map]
static ZERO_PATH: Array<Path<EXE_DEPTH>> = Array::with_max_entries(1, 0);

/// Writes the path of the task's executable as its mount namespace sees it; 1 where it is cut.
#[inline(always)]
pub(crate) fn executable(task: Address, path: *mut Path<EXE_DEPTH>) -> u32 {
    clear(path);
    let mm: Address = member(task, &offset::TASK_MM);
    let file: Address = member(mm, &offset::MM_EXE_FILE);
    let mut dentry: Address = member(file, &offset::FILE_DENTRY);
    let mut mount: Address = member(file, &offset::FILE_MNT);
    let vfsmount = u64::from(offset::MOUNT_VFSMOUNT.load());
    for depth in 0..EXE_DEPTH {
        let parent: Address = member(dentry, &offset::DENTRY_PARENT);
        if dentry == member::<Address>(mount, &offset::VFSMOUNT_ROOT) {
            // A mount's root is named by the directory that it covers (`prepend_path`, fs/d_path.c).
            let covering = mount - vfsmount;
            let above: Address = member(covering, &offset::MOUNT_PARENT);
            dentry = member(covering, &offset::MOUNT_MOUNTPOINT);
            mount = above + vfsmount;
            if above == covering {
                return 0;
            }
        } else if parent == dentry {
            return 0;
        } else {
            component(path, depth, member(dentry, &offset::DENTRY_NAME));
            dentry = parent;
        }
    }
    1
}

/// Writes the path of the task's cgroup in the v2 hierarchy; 1 where it is cut.
#[inline(always)]
pub(crate) fn cgroup(task: Address, path: *mut Path<CGROUP_DEPTH>) -> u32 {
    clear(path);
    let set: Address = member(task, &offset::TASK_CGROUPS);
    let group: Address = member(set, &offset::CSS_SET_CGROUP);
    let mut node: Address = member(group, &offset::CGROUP_NODE);
    for depth in 0..CGROUP_DEPTH {
        let parent: Address = member(node, &offset::NODE_PARENT);
        if parent == 0 {
            return 0;
        }
        component(path, depth, member(node, &offset::NODE_NAME));
        node = parent;
    }
    1
}

/// Copies one name to its place, which is below the path's depth. An unreadable one stays empty.
#[inline(always)]
fn component<const DEPTH: usize>(path: *mut Path<DEPTH>, depth: usize, name: Address) {
    // SAFETY: the place lies in the path and has COMPONENT_SIZE bytes.
    unsafe {
        let place = path.cast::<[u8; COMPONENT_SIZE]>().add(depth);
        bpf_probe_read_kernel_str(place.cast(), COMPONENT_SIZE as u32, name as *const _)
    };
}

#[inline(always)]
fn clear<const DEPTH: usize>(path: *mut Path<DEPTH>) {
    const { assert!(DEPTH <= EXE_DEPTH) };
    let Some(zero) = ZERO_PATH.get_ptr(0) else {
        return;
    };
    // SAFETY: the target is a whole path, the source at least as large.
    unsafe { bpf_probe_read_kernel(path.cast(), size_of::<Path<DEPTH>>() as u32, zero.cast()) };
}
