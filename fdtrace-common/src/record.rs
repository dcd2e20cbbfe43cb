//! What the records of the ring are: each begins with its kind, a `u32`.

/// [`crate::alarm::AlarmRecord`]: a call failed for want of an fd.
pub const RECORD_ALARM: u32 = 1;
/// [`crate::change::OpenRecord`]: a file comes into a free slot.
pub const RECORD_OPENED: u32 = 2;
/// [`crate::change::OpenRecord`]: a file takes the place of another one (dup2).
pub const RECORD_REPLACED: u32 = 3;
/// [`crate::change::OpenRecord`], written by the file iterator and not into the ring: a file is in a
/// slot.
pub const RECORD_SEEN: u32 = 4;
/// [`crate::change::CloseRecord`]: a file has left its slot.
pub const RECORD_CLOSED: u32 = 5;
/// [`crate::change::CopyRecord`]: a table is a copy of another one; what it holds follows.
pub const RECORD_COPIED: u32 = 6;
/// [`crate::change::SlotsRecord`]: sixty-four slots of a copy.
pub const RECORD_COPIED_SLOTS: u32 = 7;
/// [`crate::change::BitsRecord`]: what exec has left in a table.
pub const RECORD_EXECUTED: u32 = 8;
/// [`crate::change::ThreadRecord`]: a thread has been made, and uses a table.
pub const RECORD_BOUND: u32 = 9;
/// [`crate::change::ThreadRecord`]: a thread is about to give its table up.
pub const RECORD_EXITED: u32 = 10;
/// [`crate::change::ThreadRecord`]: a thread has a new name.
pub const RECORD_RENAMED: u32 = 11;
/// [`crate::change::MarkRecord`]: the iterator has come to its end.
pub const RECORD_MARK: u32 = 12;
/// [`crate::stack::StackRecord`] and the stack behind it: who opens the file of the next record.
pub const RECORD_STACK: u32 = 13;
/// [`crate::stack::ProgramRecord`]: what a process executes from here on.
pub const RECORD_PROGRAM: u32 = 15;
/// [`crate::python::PythonRecord`] and its frames: what belongs to the next [`RECORD_STACK`] of the same file.
pub const RECORD_PYTHON: u32 = 16;
/// [`crate::held::HeldRecord`]: a slot of a table that has just run out.
pub const RECORD_HELD: u32 = 14;
