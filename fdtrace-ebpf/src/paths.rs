//! Paths that the kernel keeps as linked names: the program's file and its cgroup.
//!
//! `bpf_d_path` is not allowed at the hooks that see an exhaustion, and the process may be gone
//! before anybody could read /proc; so the names are walked here, bounded, from leaf to root.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::alarm::{CGROUP_DEPTH, COMPONENT_SIZE, EXE_DEPTH, Path};

use crate::{
    kernel::{Address, Offset as _, member, offset},
    repeat::{Turn, repeat},
};

/// Zeroes to copy from: a path is cleared with one helper call.
#[map]
static ZERO_PATH: Array<Path<EXE_DEPTH>> = Array::with_max_entries(1, 0);

/// Writes the path of the task's executable as its mount namespace sees it; 1 where it is cut.
#[inline(always)]
pub(crate) fn executable(task: Address, path: *mut Path<EXE_DEPTH>) -> u32 {
    clear(path);
    let mm: Address = member(task, &offset::TASK_MM);
    let file: Address = member(mm, &offset::MM_EXE_FILE);
    let mut walk = Executable {
        path,
        dentry: member(file, &offset::FILE_DENTRY),
        mount: member(file, &offset::FILE_MNT),
    };
    repeat::<{ EXE_DEPTH as u32 }, _>(EXE_DEPTH as u32, &mut walk);
    is_address(walk.dentry)
}

/// Goes up from a file, to no dentry where it has come to the root.
struct Executable {
    path: *mut Path<EXE_DEPTH>,
    dentry: Address,
    mount: Address,
}

impl Turn for Executable {
    #[inline(always)]
    fn turn(&mut self, depth: u64) {
        let place = place(self.path, depth);
        let parent: Address = member(self.dentry, &offset::DENTRY_PARENT);
        if self.dentry == member::<Address>(self.mount, &offset::VFSMOUNT_ROOT) {
            // A mount's root is named by the directory that it covers (`prepend_path`, fs/d_path.c).
            let vfsmount = u64::from(offset::MOUNT_VFSMOUNT.load());
            let covering = self.mount - vfsmount;
            let above: Address = member(covering, &offset::MOUNT_PARENT);
            self.dentry = if above == covering {
                0
            } else {
                member(covering, &offset::MOUNT_MOUNTPOINT)
            };
            self.mount = above + vfsmount;
        } else if parent == self.dentry {
            self.dentry = 0;
        } else {
            component(place, member(self.dentry, &offset::DENTRY_NAME));
            self.dentry = parent;
        }
    }
}

/// Writes the path of the task's cgroup in the v2 hierarchy; 1 where it is cut.
#[inline(always)]
pub(crate) fn cgroup(task: Address, path: *mut Path<CGROUP_DEPTH>) -> u32 {
    clear(path);
    let set: Address = member(task, &offset::TASK_CGROUPS);
    let group: Address = member(set, &offset::CSS_SET_CGROUP);
    let mut walk = Cgroup {
        path,
        node: member(group, &offset::CGROUP_NODE),
    };
    repeat::<{ CGROUP_DEPTH as u32 }, _>(CGROUP_DEPTH as u32, &mut walk);
    is_address(walk.node)
}

/// Goes up from a cgroup, to no node behind the root, which has no name.
struct Cgroup {
    path: *mut Path<CGROUP_DEPTH>,
    node: Address,
}

impl Turn for Cgroup {
    #[inline(always)]
    fn turn(&mut self, depth: u64) {
        let place = place(self.path, depth);
        let parent: Address = member(self.node, &offset::NODE_PARENT);
        if parent != 0 {
            component(place, member(self.node, &offset::NODE_NAME));
        }
        self.node = parent;
    }
}

/// 1 for an address in the kernel, which has its top bit set, 0 for NULL: no branch, behind which the verifier
/// would walk everything once more.
#[inline(always)]
fn is_address(pointer: Address) -> u32 {
    (pointer >> 63) as u32
}

/// The place of a name. Asked for at the start of a turn: what verifiers know of an index they forget where a
/// compiler has put it aside, and of a pointer they do not.
#[inline(always)]
fn place<const DEPTH: usize>(path: *mut Path<DEPTH>, depth: u64) -> *mut u8 {
    let last = DEPTH as u64 - 1;
    let depth = if depth < last { depth } else { last };
    // SAFETY: the place lies in the path.
    unsafe {
        path.cast::<[u8; COMPONENT_SIZE]>()
            .add(depth as usize)
            .cast()
    }
}

/// Copies a name to its place. An unreadable one stays empty.
#[inline(always)]
fn component(place: *mut u8, name: Address) {
    // SAFETY: a place has COMPONENT_SIZE bytes.
    unsafe { bpf_probe_read_kernel_str(place.cast(), COMPONENT_SIZE as u32, name as *const _) };
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
