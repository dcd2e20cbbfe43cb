//! Recognises the failure that another fdtrace makes on purpose, see `fdtrace_common::self_test`.

use aya_ebpf::Global;
use fdtrace_common::{
    fields::ABSENT,
    self_test::{MARK, MAY_MARK},
};

use crate::{
    call::Call,
    kernel::{Address, Offset as _, member, offset},
};

/// The number of dup.
#[unsafe(no_mangle)]
static NR_DUP: Global<u32> = Global::new(u32::MAX);

/// Does `call`, in which `task` is, carry the mark of a self-test, and may the task set it?
#[inline(always)]
pub(crate) fn is_marked(task: Address, call: Call) -> bool {
    if call.code != NR_DUP.load() {
        return false;
    }
    let [_, first, second] = call.arguments();
    [first, second] == MARK && may_mark(task)
}

/// Has the task one of the capabilities of [`MAY_MARK`], and not just in a user namespace that anybody can make?
#[inline(always)]
fn may_mark(task: Address) -> bool {
    let cred: Address = member(task, &offset::TASK_CRED);
    let capabilities: u64 = member(cred, &offset::CRED_EFFECTIVE);
    let namespace: Address = member(cred, &offset::CRED_USER_NS);
    // 0 is the first namespace, and what a member that is absent or unreadable looks like.
    offset::USER_NS_LEVEL.load() != ABSENT
        && namespace != 0
        && member::<u32>(namespace, &offset::USER_NS_LEVEL) == 0
        && capabilities & MAY_MARK != 0
}
