//! Reading the kernel's structs, through offsets that the user side resolved from BTF.
//!
//! Every read goes through `bpf_probe_read_kernel`, which writes zeroes where it faults: a reader
//! below therefore ignores the helper's status and treats 0 as absent. Joining the status with the
//! value in a `match` would also let verifiers from 5.10 to 6.7 prune live code (aya#1574).

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
        },
    },
};
use crate::repeat::{Turn, repeat};
use fdtrace_common::{UNKNOWN, alarm::OPEN_COUNTED, alarm::USED_COUNTED, fields::ABSENT};

/// Where a member lies in its struct.
pub(crate) trait Offset {
    /// Bytes from the struct's start, or [`ABSENT`].
    fn load(&self) -> u32;

    /// Does this kernel lack the member, of which this was loaded?
    fn is_absent(&self, offset: u32) -> bool;
}

/// The offset of a member that every kernel has on which programs are loaded at all: whether it is there is no
/// question that each event pays for.
#[repr(transparent)]
pub(crate) struct Required(Global<u32>);

/// The offset of a member that a kernel may lack.
#[repr(transparent)]
pub(crate) struct Optional(Global<u32>);

impl Offset for Required {
    #[inline(always)]
    fn load(&self) -> u32 {
        self.0.load()
    }

    #[inline(always)]
    fn is_absent(&self, _: u32) -> bool {
        false
    }
}

impl Offset for Optional {
    #[inline(always)]
    fn load(&self) -> u32 {
        self.0.load()
    }

    #[inline(always)]
    fn is_absent(&self, offset: u32) -> bool {
        offset == ABSENT
    }
}

macro_rules! globals {
    ($($need:ident $name:ident: $structure:literal, $($path:literal)|+;)*) => {
        /// Byte offsets of kernel struct members; [`ABSENT`] until the user side has resolved them.
        pub(crate) mod offset {
            use super::{ABSENT, Global, Optional, Required};
            $(
                #[doc = concat!("Offset in `", $structure, "` of ", $("`", $path, "` "),+)]
                #[unsafe(no_mangle)]
                pub(crate) static $name: globals!(@ $need) = globals!(@ $need)(Global::new(ABSENT));
            )*
        }
    };
    (@ required) => { Required };
    (@ optional) => { Optional };
}
fdtrace_common::kernel_fields!(globals);

/// Size of a kernel stack (`THREAD_SIZE`); used where `bpf_task_pt_regs` is missing.
#[unsafe(no_mangle)]
static STACK_SIZE: Global<u32> = Global::new(0);
/// Size of `pt_regs`.
#[unsafe(no_mangle)]
static REGS_SIZE: Global<u32> = Global::new(0);
/// 1 where the kernel has the helper `bpf_task_pt_regs` (5.15).
#[unsafe(no_mangle)]
static HAVE_TASK_PT_REGS: Global<u32> = Global::new(0);

/// An address inside the kernel.
pub(crate) type Address = u64;

/// Where a struct lies, and how its members are read.
pub(crate) trait Pointer: Copy {
    /// As [`member`].
    fn member<T: Copy + Default>(self, member: &impl Offset) -> T;

    /// The struct that a member points to.
    fn follow(self, member: &impl Offset) -> Self;

    /// The number.
    fn address(self) -> Address;

    /// Are its members read by plain loads?
    fn is_typed(self) -> bool;

    /// Part of a member that is an array, from so many bytes on.
    fn member_at<T: Copy + Default>(self, member: &impl Offset, bytes: usize) -> T;
}

impl Pointer for Address {
    #[inline(always)]
    fn member<T: Copy + Default>(self, offset: &impl Offset) -> T {
        member(self, offset)
    }

    #[inline(always)]
    fn follow(self, offset: &impl Offset) -> Self {
        member(self, offset)
    }

    #[inline(always)]
    fn address(self) -> Address {
        self
    }

    #[inline(always)]
    fn is_typed(self) -> bool {
        false
    }

    #[inline(always)]
    fn member_at<T: Copy + Default>(self, offset: &impl Offset, bytes: usize) -> T {
        member(self + bytes as u64, offset)
    }
}

/// A pointer of whose type the verifier knows: arguments on trampolines, and what they lead to. Its
/// members are read by plain loads, two instructions instead of a helper's hundred; the kernel makes a
/// load that faults give 0 (`ex_handler_bpf` in `arch/x86/net/bpf_jit_comp.c`).
#[derive(Clone, Copy)]
pub(crate) struct Typed(pub(crate) *const u8);

impl Pointer for Typed {
    #[inline(always)]
    fn member<T: Copy + Default>(self, member: &impl Offset) -> T {
        self.member_at(member, 0)
    }

    #[inline(always)]
    fn follow(self, member: &impl Offset) -> Self {
        let offset = member.load();
        if member.is_absent(offset) {
            return Self(core::ptr::null());
        }
        // SAFETY: as above; what is loaded is a pointer again, to the verifier as well.
        Self(unsafe { self.0.add(offset as usize).cast::<*const u8>().read_volatile() })
    }

    #[inline(always)]
    fn address(self) -> Address {
        self.0 as Address
    }

    #[inline(always)]
    fn is_typed(self) -> bool {
        true
    }

    #[inline(always)]
    fn member_at<T: Copy + Default>(self, member: &impl Offset, bytes: usize) -> T {
        let offset = member.load();
        if member.is_absent(offset) {
            return T::default();
        }
        // SAFETY: checked by the verifier, type and offset. Volatile, because where it stands is where it
        // may be read.
        unsafe {
            let member = self.0.add(offset as usize).add(bytes);
            member.cast::<T>().read_volatile()
        }
    }
}

/// 1 where the kernel has the helper `bpf_get_current_task_btf` (5.11).
#[unsafe(no_mangle)]
static HAVE_TASK_BTF: Global<u32> = Global::new(0);

/// The table of the current thread.
#[inline(always)]
pub(crate) fn current_files() -> Address {
    if HAVE_TASK_BTF.load() == 1 {
        // SAFETY: no arguments; the result is a trusted pointer to the current task.
        let task = unsafe { bpf_get_current_task_btf() };
        return Typed(task.cast_const().cast()).member(&offset::TASK_FILES);
    }
    member(current_task(), &offset::TASK_FILES)
}

/// When the current process was started, nanoseconds since boot.
#[inline(always)]
pub(crate) fn current_started() -> u64 {
    if HAVE_TASK_BTF.load() == 1 {
        // SAFETY: as in `current_files`.
        let task = unsafe { bpf_get_current_task_btf() };
        let leader = Typed(task.cast_const().cast()).follow(&offset::TASK_GROUP_LEADER);
        return leader.member(&offset::TASK_START);
    }
    let leader: Address = member(current_task(), &offset::TASK_GROUP_LEADER);
    member(leader, &offset::TASK_START)
}

/// The number of the current thread.
#[inline(always)]
pub(crate) fn current_tid() -> u32 {
    if HAVE_TASK_BTF.load() == 1 {
        // SAFETY: as above.
        let task = unsafe { bpf_get_current_task_btf() };
        return Typed(task.cast_const().cast()).member(&offset::TASK_PID);
    }
    bpf_get_current_pid_tgid() as u32
}

/// The value at `base` + the member's offset; 0 where either is absent or unreadable.
#[inline(always)]
pub(crate) fn member<T: Copy + Default>(base: Address, member: &impl Offset) -> T {
    // No look at `base`: a branch here would double the verifier's work at every step of a walk, and
    // reading near NULL gives the same 0.
    // That a member is there is asked here of required ones too: where it is not, verifiers that walk loops turn by
    // turn (5.10) come to no end. Beside the helper's hundred instructions it costs nothing.
    let offset = member.load();
    if offset == ABSENT {
        T::default()
    } else {
        read(base + u64::from(offset))
    }
}

/// The value at `address`; 0 where it is unreadable.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(address: Address) -> T {
    let mut value = T::default();
    // SAFETY: the destination is a local of exactly this size; the source may be any address.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const core::ffi::c_void,
        )
    };
    value
}

/// Copies `size` bytes from `address`; zeroes where it is unreadable.
///
/// # Safety
///
/// `to` must have room for them.
#[inline(always)]
pub(crate) unsafe fn copy(to: *mut u8, size: u32, address: Address) {
    // SAFETY: the caller's promise; the source may be any address.
    unsafe { bpf_probe_read_kernel(to.cast(), size, address as *const core::ffi::c_void) };
}

/// Is a returned pointer an errno, or none (`IS_ERR_OR_NULL` in include/linux/err.h)?
#[inline(always)]
pub(crate) fn is_error_or_null(pointer: Address) -> bool {
    pointer == 0 || pointer >= 0_u64.wrapping_sub(4095)
}

/// The `task_struct` that runs this program.
#[inline(always)]
pub(crate) fn current_task() -> Address {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() }
}

/// The registers that the current thread entered the kernel with.
#[inline(always)]
pub(crate) fn entry_registers(task: Address) -> Address {
    if HAVE_TASK_PT_REGS.load() == 1 {
        // SAFETY: no arguments; the result is a trusted pointer to the current task.
        let task = unsafe { bpf_get_current_task_btf() };
        // SAFETY: `task` comes from the helper above.
        return unsafe { bpf_task_pt_regs(task) } as Address;
    }
    registers_on_stack(task)
}

/// The registers that any thread entered the kernel with last; `task` is a pointer that the verifier knows.
#[inline(always)]
pub(crate) fn registers_of(task: *const aya_ebpf::bindings::task_struct) -> Address {
    if HAVE_TASK_PT_REGS.load() == 1 {
        // SAFETY: a task that the kernel holds while the program runs.
        return unsafe { bpf_task_pt_regs(task.cast_mut()) } as Address;
    }
    registers_on_stack(task as Address)
}

/// Before `bpf_task_pt_regs`, no kernel pads the top of the stack (x86 does since FRED, 6.9).
#[inline(always)]
fn registers_on_stack(task: Address) -> Address {
    let stack: Address = member(task, &offset::TASK_STACK);
    stack + u64::from(STACK_SIZE.load()) - u64::from(REGS_SIZE.load())
}

/// Words of the bitmap that are counted at most.
const WORDS: u32 = USED_COUNTED / 64;
/// The same for the pointers behind them.
const POINTER_WORDS: u32 = OPEN_COUNTED / 64;
/// Bytes that the pointers of one bitmap word fill.
const POINTERS_SIZE: u32 = 64 * 8;

/// A table's slots: a `struct fdtable`.
///
/// Each count reads the size anew and refuses what is too large before its loop. With one value for
/// both loops, or a test behind one, the verifier would walk everything that follows once for each
/// of the thousand ways out of the loop.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    fdt: Address,
}

impl Table {
    /// The present table of a `files_struct`.
    #[inline(always)]
    pub(crate) fn of(files: Address) -> Self {
        Self {
            fdt: member(files, &offset::FILES_FDT),
        }
    }

    /// Slots it has room for: always a multiple of 64 (`alloc_fdtable` in fs/file.c), so that no
    /// read of whole words passes the end.
    #[inline(always)]
    pub(crate) fn max_fds(self) -> u32 {
        member(self.fdt, &offset::FDT_MAX_FDS)
    }

    /// Bits set: numbers taken, those of calls under way included.
    #[inline(always)]
    pub(crate) fn used(self) -> u32 {
        let words = self.max_fds() / 64;
        if words > WORDS {
            return UNKNOWN;
        }
        let mut work = Used {
            bits: member(self.fdt, &offset::FDT_OPEN_FDS),
            count: 0,
        };
        repeat::<WORDS, _>(words, &mut work);
        work.count
    }

    /// The file in a slot; 0 for a free or reserved one, and beyond the table's end.
    #[inline(always)]
    pub(crate) fn file(self, fd: u32) -> Address {
        if fd >= self.max_fds() {
            return 0;
        }
        let pointers: Address = member(self.fdt, &offset::FDT_FD);
        read(pointers + u64::from(fd) * 8)
    }

    /// Where its file pointers lie.
    #[inline(always)]
    pub(crate) fn pointers(self) -> Address {
        member(self.fdt, &offset::FDT_FD)
    }

    /// Is the number taken, with or without a file? It must lie within the table.
    #[inline(always)]
    pub(crate) fn is_taken(self, fd: u32) -> bool {
        let bits: Address = member(self.fdt, &offset::FDT_OPEN_FDS);
        let word: u64 = read(bits + u64::from(fd / 64) * 8);
        (word >> (fd % 64)) & 1 == 1
    }

    /// 1 where exec closes `fd`.
    #[inline(always)]
    pub(crate) fn closes_on_exec(self, fd: u32) -> u32 {
        let bits: Address = member(self.fdt, &offset::FDT_CLOSE_ON_EXEC);
        let word: u64 = read(bits + u64::from(fd / 64) * 8);
        (word >> (fd % 64)) as u32 & 1
    }

    /// File pointers set. `scratch` has room for those that belong to one word of the bitmap.
    #[inline(always)]
    pub(crate) fn open(self, scratch: *mut [u64; 64]) -> u32 {
        let words = self.max_fds() / 64;
        if words > POINTER_WORDS {
            return UNKNOWN;
        }
        let mut work = Open {
            pointers: member(self.fdt, &offset::FDT_FD),
            scratch,
            count: 0,
        };
        repeat::<POINTER_WORDS, _>(words, &mut work);
        work.count
    }
}

/// Counts the bits of a table.
struct Used {
    bits: Address,
    count: u32,
}

impl Turn for Used {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        self.count += read::<u64>(self.bits + index * 8).count_ones();
    }
}

/// Counts the pointers of a table.
struct Open {
    pointers: Address,
    scratch: *mut [u64; 64],
    count: u32,
}

impl Turn for Open {
    #[inline(always)]
    fn turn(&mut self, index: u64) {
        let from = self.pointers + index * u64::from(POINTERS_SIZE);
        // SAFETY: `scratch` is that large.
        unsafe { bpf_probe_read_kernel(self.scratch.cast(), POINTERS_SIZE, from as *const _) };
        for slot in 0..64 {
            // SAFETY: `slot` is below 64.
            let pointer = unsafe { self.scratch.cast::<u64>().add(slot).read() };
            // A kernel address has its top bit set, NULL has not.
            self.count += (pointer >> 63) as u32;
        }
    }
}
