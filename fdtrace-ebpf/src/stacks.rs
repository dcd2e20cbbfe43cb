//! Who opens an fd: the registers that the thread entered the kernel with, and a copy of its stack.
//!
//! Only of tables that the user side has named, or of everybody where it wants that; otherwise a load and a
//! comparison are all that an open pays, and two for each table while few are named.

mod python;
mod returned;

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    control::COUNTER_STACKS,
    record::{RECORD_PROGRAM, RECORD_STACK},
    stack::{
        FAILING, ProgramRecord, REGISTERS, STACK_PAGE, STACK_PAGES, STACK_TABLES_MAX, STACKS_ALL,
        STACKS_NEVER, STACKS_OF_CPU, STACKS_OF_TABLE, StackRecord, StackRoom,
    },
};

use crate::{
    control::{self, Orders},
    kernel::{self, Address, member, offset},
    paths, ring, scope,
};

pub(crate) use self::returned::returned;

/// 0: nobody will ever want a stack, and all of this is dead code.
#[unsafe(no_mangle)]
static STACKS: Global<u32> = Global::new(STACKS_NEVER);

/// The tables whose stacks are wanted, with the tick in which one was told last and how many were in it.
#[map]
pub(crate) static STACK_TABLES: HashMap<u64, u64> = HashMap::with_max_entries(STACK_TABLES_MAX, 0);

/// The same for each CPU, all tables together.
#[map]
static STACK_BUDGET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// How many stacks have been told of a program, by process and where its stack begins; up to [`EARLY`].
#[map]
static STACK_IMAGES: LruHashMap<[u64; 2], u8> = LruHashMap::with_max_entries(1_024, 0);

/// The first stacks of a program wake the reader up: it maps its libraries one after the other, and may end
/// soon.
const EARLY: u8 = 16;

/// Where records are put together: a ring's reservation has a fixed size, and stacks have not.
///
/// One for each CPU is enough. A program that could lose its CPU here runs with the table's lock held, or
/// sits on a kprobe (`fdtrace::probe::preemption`), and keeps it.
#[map]
static STACK_ROOM: PerCpuArray<StackRoom> = PerCpuArray::with_max_entries(1, 0);

/// Where the record of a program is put together. Only exec's hook writes here, and it is not entered a second
/// time on a CPU while it runs.
#[map]
static PROGRAM_ROOM: PerCpuArray<ProgramRecord> = PerCpuArray::with_max_entries(1, 0);

/// Tells what the current process executes, where the stacks of all are wanted: one that ends within a
/// millisecond is gone before its mappings can be read. A table that is named has been there for a while.
#[inline(always)]
pub(crate) fn tell_program(task: Address) {
    if STACKS.load() != STACKS_NEVER && control::stacks() == STACKS_ALL {
        write_program(task);
    }
}

#[inline(never)]
fn write_program(task: Address) -> i32 {
    let Some(room) = PROGRAM_ROOM.get_ptr_mut(0) else {
        return 0;
    };
    if !scope::is_asked_for() || ring::is_half_full() {
        return 0;
    }
    let mm: Address = member(task, &offset::TASK_MM);
    let file: Address = member(mm, &offset::MM_EXE_FILE);
    let inode: Address = member(file, &offset::FILE_INODE);
    // SAFETY: `room` is this CPU's own, whole; each member is written once.
    unsafe {
        (&raw mut (*room).kind).write(RECORD_PROGRAM);
        (&raw mut (*room).tgid).write((bpf_get_current_pid_tgid() >> 32) as u32);
        (&raw mut (*room).inode).write(member(inode, &offset::INODE_NUMBER));
        (&raw mut (*room).padding).write(0);
        let truncated = paths::executable(task, &raw mut (*room).exe);
        (&raw mut (*room).exe_truncated).write(truncated);
    }
    // Without it, a stack has an address in place of a function: no loss that would be counted.
    // SAFETY: the whole record has been written.
    let _ = unsafe { ring::output(room.cast(), size_of::<ProgramRecord>() as u64, false) };
    0
}

/// Tells the current thread's stack if it is wanted. Comes before the record of the file that it opens.
#[inline(always)]
pub(crate) fn tell(files: Address, fd: u32, file: Address, orders: Orders) {
    if STACKS.load() != STACKS_NEVER && orders.may_name(files) {
        copy(files, fd, file);
    }
}

/// A function of its own, so that each program holds its code once.
#[inline(never)]
fn copy(files: Address, fd: u32, file: Address) {
    let table = STACK_TABLES.get_ptr_mut(files);
    if table.is_none() && control::stacks() != STACKS_ALL {
        return;
    }
    let task = kernel::current_task();
    if is_kernels(task) || !scope::is_asked_for() {
        return;
    }
    if let Some(spent) = table
        && !is_within(spent, STACKS_OF_TABLE)
    {
        return control::count(COUNTER_STACKS);
    }
    if !is_affordable() {
        return control::count(COUNTER_STACKS);
    }
    if let Some(room) = STACK_ROOM.get_ptr_mut(0) {
        // SAFETY: `room` is this CPU's own, whole.
        unsafe {
            let head = &raw mut (*room).head;
            (&raw mut (*head).fd).write(fd);
            (&raw mut (*head).files).write(files);
            (&raw mut (*head).file).write(file);
        }
        stack_write();
    }
}

/// Tells the stack of the current thread, whose call finds this table full. Comes before the alarm.
#[inline(always)]
pub(crate) fn tell_failing(files: Address) {
    if STACKS.load() == STACKS_NEVER || is_kernels(kernel::current_task()) {
        return;
    }
    if !is_affordable() {
        return control::count(COUNTER_STACKS);
    }
    if let Some(room) = STACK_ROOM.get_ptr_mut(0) {
        let thread = bpf_get_current_pid_tgid() as u32;
        // SAFETY: `room` is this CPU's own, whole.
        unsafe {
            let head = &raw mut (*room).head;
            (&raw mut (*head).fd).write(FAILING | thread);
            (&raw mut (*head).files).write(files);
            (&raw mut (*head).file).write(0);
        }
        stack_write();
    }
}

/// Is there room for a stack more, of those that a CPU may take in a second, and in the ring?
#[inline(always)]
fn is_affordable() -> bool {
    let is_within = match STACK_BUDGET.get_ptr_mut(0) {
        Some(spent) => is_within(spent, STACKS_OF_CPU),
        None => false,
    };
    is_within && !ring::is_half_full()
}

/// Has this second's number not been reached? If so, this is one more. CPUs that count the same table at
/// the same time may let one more through.
#[inline(always)]
fn is_within(spent: *mut u64, most: u32) -> bool {
    let tick = control::tick() << 32;
    // SAFETY: a map's value, of whole words.
    let before = unsafe { spent.read_volatile() };
    let now = if before & !0xffff_ffff == tick {
        before + 1
    } else {
        tick + 1
    };
    // SAFETY: as above.
    unsafe { spent.write_volatile(now) };
    now as u32 <= most
}

/// Is this one of the first stacks of a program?
#[inline(always)]
fn is_early(told: *mut u8) -> bool {
    // SAFETY: a map's value; what two CPUs write at the same time is one less at worst.
    let count = unsafe { told.read_volatile() };
    if count >= EARLY {
        return false;
    }
    // SAFETY: as above.
    unsafe { told.write_volatile(count + 1) };
    true
}

/// `PF_KTHREAD` and `PF_IO_WORKER` (include/linux/sched.h, 5.8 to 7.2): threads without a user stack.
#[inline(always)]
fn is_kernels(task: Address) -> bool {
    member::<u32>(task, &offset::TASK_FLAGS) & 0x0020_0010 != 0
}

/// Hands over the current thread's stack, of the slot that is in the room.
///
/// A global function: verifiers look at it once in each program, and not at each of its calls. They let it be given
/// numbers only, and what is a pointer to them is in the room.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_write() -> u32 {
    if let Some(room) = STACK_ROOM.get_ptr_mut(0) {
        write(room, kernel::current_task());
    }
    0
}

#[inline(always)]
fn write(room: *mut StackRoom, task: Address) {
    let thread = bpf_get_current_pid_tgid();
    let mm: Address = member(task, &offset::TASK_MM);
    let image: u64 = member(mm, &offset::MM_START_STACK);
    let registers = kernel::entry_registers(task);
    let stack: u64 = member(registers, &offset::REGS_SP);
    python::tell(task, image, room);
    // SAFETY: `room` is this CPU's own, whole; each other member is written here.
    let length = unsafe {
        let head = &raw mut (*room).head;
        (&raw mut (*head).kind).write(RECORD_STACK);
        (&raw mut (*head).image).write(image);
        (&raw mut (*head).end_code).write(member(mm, &offset::MM_END_CODE));
        (&raw mut (*head).tgid).write((thread >> 32) as u32);
        (&raw mut (*head).tid).write(thread as u32);
        (&raw mut (*head).padding).write(0);
        let pointer = member(task, &offset::TASK_THREAD_POINTER);
        (&raw mut (*head).thread_pointer).write(pointer);
        let to = (&raw mut (*head).registers).cast::<[u64; REGISTERS]>();
        to.write([
            member(registers, &offset::REGS_IP),
            stack,
            member(registers, &offset::REGS_BP),
            member(registers, &offset::REGS_OTHER0),
            member(registers, &offset::REGS_OTHER1),
            member(registers, &offset::REGS_OTHER2),
            member(registers, &offset::REGS_OTHER3),
            member(registers, &offset::REGS_OTHER4),
        ]);
        let length = copy_pages((&raw mut (*room).bytes).cast(), stack);
        (&raw mut (*head).length).write(length as u32);
        length
    };
    let size = size_of::<StackRecord>() as u64 + length;
    let key = [thread >> 32, image];
    let is_early = if let Some(told) = STACK_IMAGES.get_ptr_mut(key) {
        is_early(told)
    } else {
        // Full or not, the map's answer changes nothing here: at worst the reader is woken up again.
        let _ = STACK_IMAGES.insert(key, 1, 0);
        true
    };
    // What a process has mapped is to be read while it is there.
    // SAFETY: so many bytes of the room have been written.
    if !unsafe { ring::output(room.cast(), size, is_early) } {
        control::count(COUNTER_STACKS);
    }
}

/// Copies page by page, up to where the stack ends; how many bytes.
#[inline(always)]
unsafe fn copy_pages(to: *mut u8, from: u64) -> u64 {
    let page = u64::from(STACK_PAGE);
    let mut length = 0_u64;
    for _ in 0..STACK_PAGES {
        let at = from + length;
        let part = page - (at & (page - 1));
        // SAFETY: each part is a page at most, and there is room for as many as there are turns. Nothing
        // is written where the source cannot be read, or zeroes.
        let outcome = unsafe {
            bpf_probe_read_user(
                to.add(length as usize).cast(),
                part as u32,
                at as *const core::ffi::c_void,
            )
        };
        if outcome < 0 {
            break;
        }
        length += part;
    }
    length
}
