//! The frames of a Python interpreter, where user space has told where it keeps them.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    control::COUNTER_STACKS,
    python::{
        CODE_WORDS, COUNT_MASK, FRAME_WORDS, NO_HOP, PYTHON_FRAMES, PYTHONS_MAX, PythonFrame, PythonLayout,
        PythonRecord, PythonRoom, SHORT_FRAME_WORDS, mix,
    },
    record::RECORD_PYTHON,
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

/// Tells the frames that the current thread is in, if its program is known to be an interpreter.
#[inline(always)]
pub(super) fn tell(task: Address, image: u64, slot: [u64; 3]) {
    let Some(layout) = PYTHONS.get_ptr(image) else {
        return;
    };
    let pointer: Address = member(task, &offset::TASK_THREAD_POINTER);
    if let Some(room) = PYTHON_ROOM.get_ptr_mut(0) {
        walk(layout, room, pointer);
        write(room, slot);
    }
}

/// The value at an address of the process; 0 where it cannot be read.
#[inline(always)]
fn user<T: Copy + Default>(at: Address) -> T {
    let mut value = T::default();
    // SAFETY: the destination is a local of exactly this size; the source may be any address.
    unsafe {
        bpf_probe_read_user(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            at as *const core::ffi::c_void,
        )
    };
    value
}

/// Puts the frames of the thread with this pointer into the room. Whose state it is the state itself says: nothing is
/// taken from one that is another thread's, or none.
#[inline(never)]
fn walk(layout: *const PythonLayout, room: *mut PythonRoom, pointer: Address) -> i32 {
    // SAFETY: `layout` and `room` are maps' values. The frames' index is below their number, and a word's is cut to
    // the room's.
    unsafe {
        (&raw mut (*room).head.count).write_volatile(0);
        let mut keys = pointer;
        if (*layout).keys != NO_HOP {
            keys = user(pointer + u64::from((*layout).keys));
        }
        let state: Address = user(keys + u64::from((*layout).state));
        let owner: Address = user(state + u64::from((*layout).thread_id));
        if state == 0 || pointer == 0 || owner != pointer {
            return 0;
        }
        let mut frame: Address = user(state + u64::from((*layout).first));
        if (*layout).hop != NO_HOP {
            frame = user(frame + u64::from((*layout).hop));
        }
        let words = (&raw mut (*room).words).cast::<u64>();
        for index in 0..PYTHON_FRAMES {
            if frame == 0 {
                break;
            }
            let size = if (*layout).words > SHORT_FRAME_WORDS {
                FRAME_WORDS * 8
            } else {
                SHORT_FRAME_WORDS * 8
            };
            let at = frame as *const core::ffi::c_void;
            if bpf_probe_read_user(words.cast(), size, at) != 0 {
                break;
            }
            let word = |index: u32| words.add((index & 15) as usize).read_volatile();
            let code = word((*layout).code) & !TAGS;
            let first_line: u32 = user(code + u64::from((*layout).first_line));
            let names: [u64; CODE_WORDS] = user(code + u64::from((*layout).names));
            let to = (&raw mut (*room).frames).cast::<PythonFrame>().add(index);
            (&raw mut (*to).code).write(code);
            (&raw mut (*to).instruction).write(word((*layout).instruction));
            (&raw mut (*to).check).write(mix(first_line, names));
            (&raw mut (*room).head.count).write_volatile(index as u32 + 1);
            frame = word((*layout).back);
        }
    }
    0
}

/// Hands over what is in the room.
#[inline(always)]
fn write(room: *mut PythonRoom, slot: [u64; 3]) {
    let [files, fd, file] = slot;
    // SAFETY: `room` is this CPU's own, whole; each member of the head is written, and as many frames as it says.
    unsafe {
        let count = (&raw const (*room).head.count).read_volatile() & COUNT_MASK;
        if count == 0 {
            return;
        }
        let head = &raw mut (*room).head;
        (&raw mut (*head).kind).write(RECORD_PYTHON);
        (&raw mut (*head).files).write(files);
        (&raw mut (*head).file).write(file);
        (&raw mut (*head).fd).write(fd as u32);
        (&raw mut (*head).tid).write(bpf_get_current_pid_tgid() as u32);
        let size = size_of::<PythonRecord>() as u64
            + u64::from(count) * size_of::<PythonFrame>() as u64;
        // The stack that comes next wakes the reader up.
        if !ring::output(room.cast(), size, false) {
            control::count(COUNTER_STACKS);
        }
    }
}
