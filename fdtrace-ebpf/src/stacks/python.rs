//! The frames of a Python interpreter, where user space has told where it keeps them.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    control::COUNTER_STACKS,
    python::{
        CODE_SPAN, CODE_WORDS, COUNT_MASK, FRAME_WORDS, NO_HOP, PYTHON_FRAMES, PYTHONS_MAX, PythonFrame, PythonLayout,
        PythonRecord, PythonRoom, SHORT_FRAME_WORDS, mix,
    },
    record::RECORD_PYTHON,
    stack::StackRoom,
};

use crate::{
    control,
    kernel::{Address, member, offset},
    ring,
};

/// By where the stack of a program began (`StackRecord::image`): what is forked from it has its interpreter at the
/// same place.
#[map]
static PYTHONS: LruHashMap<u64, PythonLayout> = LruHashMap::with_max_entries(PYTHONS_MAX, 0);

/// Where records are put together; one for each CPU, as for stacks.
#[map]
static PYTHON_ROOM: PerCpuArray<PythonRoom> = PerCpuArray::with_max_entries(1, 0);

/// What a pointer's low bits can say of it (`_PyStackRef`, 3.14): objects lie at multiples of 8.
const TAGS: u64 = 7;

/// Tells the frames that the current thread is in, if its program is known to be an interpreter: of the slot that a
/// stack is told of next.
#[inline(always)]
pub(super) fn tell(task: Address, image: u64, stack: *const StackRoom) {
    let Some(layout) = PYTHONS.get_ptr(image) else {
        return;
    };
    let pointer: Address = member(task, &offset::TASK_THREAD_POINTER);
    if let Some(room) = PYTHON_ROOM.get_ptr_mut(0) {
        // SAFETY: both are maps' values, of this size.
        unsafe { (&raw mut (*room).layout).write(layout.read()) };
        walk(room, pointer);
        write(room, stack);
    }
}

/// Puts the frames of the thread with this pointer into the room. Whose state it is the state itself says: nothing is
/// taken from one that is another thread's, or none.
#[inline(always)]
fn walk(room: *mut PythonRoom, pointer: Address) {
    // SAFETY: `room` is a map's value.
    unsafe {
        (&raw mut (*room).head.count).write_volatile(0);
        let layout = &raw const (*room).layout;
        let mut keys = pointer;
        if (*layout).keys != NO_HOP {
            keys = user(pointer + u64::from((*layout).keys));
        }
        let state = user(keys.wrapping_add_signed(i64::from((*layout).state)));
        let owner = user(state + u64::from((*layout).thread_id));
        if state == 0 || pointer == 0 || owner != pointer {
            return;
        }
        let mut frame = user(state + u64::from((*layout).first));
        if (*layout).hop != NO_HOP {
            frame = user(frame + u64::from((*layout).hop));
        }
        for index in 0..PYTHON_FRAMES as u32 {
            if frame == 0 {
                return;
            }
            frame = stack_python_frame(frame, index);
        }
    }
}

/// Puts the frame at an address into the room; the address of the next outer one, or 0.
///
/// A global function, as [`super::stack_write`] is: 500 instructions for a verifier to follow in place of 16 000.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_python_frame(frame: Address, index: u32) -> Address {
    let Some(room) = PYTHON_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a map's value. The frame's index is cut to the number of frames, and a word's to the words that there
    // is room for.
    unsafe {
        let layout = &raw const (*room).layout;
        let words = (&raw mut (*room).words).cast::<u64>();
        let size = if (*layout).words > SHORT_FRAME_WORDS {
            FRAME_WORDS * 8
        } else {
            SHORT_FRAME_WORDS * 8
        };
        if !read_user(words, size, frame) {
            return 0;
        }
        let word = |index: u32| words.add((index & 15) as usize).read_volatile();
        let code = word((*layout).code) & !TAGS;
        let names = (*layout).names;
        let check = check(room, code, (*layout).first_line, names);
        let to = (&raw mut (*room).frames)
            .cast::<PythonFrame>()
            .add(index as usize & (PYTHON_FRAMES - 1));
        (&raw mut (*to).code).write(code);
        (&raw mut (*to).instruction).write(word((*layout).instruction));
        (&raw mut (*to).check).write(check);
        (&raw mut (*room).head.count).write_volatile(index + 1);
        word((*layout).back)
    }
}

/// What the code object at an address is recognised by.
#[inline(always)]
unsafe fn check(room: *mut PythonRoom, code: Address, first_line: u32, names: u32) -> u64 {
    // SAFETY: a map's value; the place of the first line is cut to the words that there is room for.
    unsafe {
        let words = (&raw mut (*room).code).cast::<u64>();
        let before = CODE_SPAN - CODE_WORDS as u32;
        let begin = names - before * 8;
        if !read_user(words, CODE_SPAN * 8, code + u64::from(begin)) {
            return 0;
        }
        let at = first_line - begin;
        let line = words.add(((at / 8) & 15) as usize).read_volatile() >> (at % 8 * 8);
        let names = words.add(before as usize).cast::<[u64; CODE_WORDS]>();
        mix(line as u32, names.read())
    }
}

/// The value at an address of the process; 0 where it cannot be read.
#[inline(always)]
fn user(at: Address) -> Address {
    let mut value = 0;
    // SAFETY: the destination is a local of this size.
    unsafe { read_user(&raw mut value, 8, at) };
    value
}

/// Reads of the process's memory; `false`: it cannot be read.
#[inline(always)]
unsafe fn read_user(to: *mut u64, size: u32, from: Address) -> bool {
    // SAFETY: the caller says that there is room for so much; the source may be any address.
    unsafe { bpf_probe_read_user(to.cast(), size, from as *const core::ffi::c_void) == 0 }
}

/// Hands over what is in the room.
#[inline(always)]
fn write(room: *mut PythonRoom, stack: *const StackRoom) {
    // SAFETY: `room` and `stack` are this CPU's own, whole; each member of the head is written, and as many frames as it says.
    unsafe {
        let count = (&raw const (*room).head.count).read_volatile() & COUNT_MASK;
        if count == 0 {
            return;
        }
        let head = &raw mut (*room).head;
        let slot = &raw const (*stack).head;
        (&raw mut (*head).kind).write(RECORD_PYTHON);
        (&raw mut (*head).files).write((&raw const (*slot).files).read());
        (&raw mut (*head).file).write((&raw const (*slot).file).read());
        (&raw mut (*head).fd).write((&raw const (*slot).fd).read());
        (&raw mut (*head).tid).write(bpf_get_current_pid_tgid() as u32);
        let size = size_of::<PythonRecord>() as u64
            + u64::from(count) * size_of::<PythonFrame>() as u64;
        // The stack that comes next wakes the reader up.
        if !ring::output(room.cast(), size, false) {
            control::count(COUNTER_STACKS);
        }
    }
}
