//! Which lines of Python an fd was opened by: the frames of the interpreter, as kernel programs find them.
//!
//! A frame is gone microseconds after the open, so the kernel programs walk them at the open. What code objects are
//! called and where they come from is read later, in user space, which recognises by [`mix`] that an address has
//! become another one's.

/// Frames of a stack that are told at most.
pub const PYTHON_FRAMES: usize = 32;
/// Programs whose interpreter is known at once.
pub const PYTHONS_MAX: u32 = 1_024;
/// In place of an offset: there is nothing to follow.
pub const NO_HOP: u32 = u32::MAX;
/// Words that are read of a frame at most, and of one from 3.11 on.
pub const FRAME_WORDS: u32 = 14;
/// See [`FRAME_WORDS`].
pub const SHORT_FRAME_WORDS: u32 = 8;
/// Words of a code object that go into [`mix`] beside its first line.
pub const CODE_WORDS: usize = 4;
/// Words of a code object that are read: its first line is among them, and the [`CODE_WORDS`] are the last.
pub const CODE_SPAN: u32 = 11;

/// Where an interpreter keeps what; offsets are bytes.
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// From the thread pointer: what is followed first to the place of the state, or [`NO_HOP`].
    pub keys: u32,
    /// From there: the thread's state (`PyThreadState *`). Variables of a thread lie before its pointer.
    pub state: i32,
    /// In the state: the thread pointer of its thread.
    pub thread_id: u32,
    /// In the state: its innermost frame, or, where there is a [`PythonLayout::hop`], what leads to it.
    pub first: u32,
    /// In that: the innermost frame; or [`NO_HOP`].
    pub hop: u32,
    /// Words of a frame that are read: [`FRAME_WORDS`] or [`SHORT_FRAME_WORDS`].
    pub words: u32,
    /// Which of them is the code object,
    pub code: u32,
    /// what tells the instruction,
    pub instruction: u32,
    /// and the next outer frame.
    pub back: u32,
    /// In a code object: the first line (`co_firstlineno`, an int).
    pub first_line: u32,
    /// In a code object: the [`CODE_WORDS`] that its names and its table of lines are among.
    pub names: u32,
    /// Always 0.
    pub padding: u32,
}

/// The head of a record; `count` frames follow, the innermost first.
///
/// It comes before the stack of the same file.
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonRecord {
    /// [`crate::record::RECORD_PYTHON`].
    pub kind: u32,
    /// Frames behind this head.
    pub count: u32,
    /// The table.
    pub files: u64,
    /// The file.
    pub file: u64,
    /// The number that the file gets.
    pub fd: u32,
    /// The thread.
    pub tid: u32,
}

/// One frame.
#[cfg_attr(
    feature = "user",
    derive(
        serde::Serialize,
        serde::Deserialize,
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonFrame {
    /// The address of its code object.
    pub code: u64,
    /// The word that tells the instruction: an index before 3.11, an address since.
    pub instruction: u64,
    /// What the code object was like then, see [`mix`].
    pub check: u64,
}

/// What a number of frames is cut to, for verifiers that forget what a comparison has shown.
pub const COUNT_MASK: u32 = 63;

/// Where a kernel program puts a record together.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PythonRoom {
    /// The head.
    pub head: PythonRecord,
    /// The frames.
    pub frames: [PythonFrame; PYTHON_FRAMES],
    /// Where the interpreter keeps what.
    pub layout: PythonLayout,
    /// Words of the frame that is looked at.
    pub words: [u64; 16],
    /// Words of its code object, of which there are [`CODE_SPAN`].
    pub code: [u64; 16],
    /// Never used: whatever number of frames a verifier takes [`COUNT_MASK`] to leave, there is room for it.
    pub padding: [u64; 64],
}

/// Sums up what makes a code object the same one: its first line, and the addresses of its names and its table of
/// lines.
#[must_use]
#[inline(always)]
pub fn mix(first_line: u32, words: [u64; CODE_WORDS]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let [one, two, three, four] = words;
    let mut sum = u64::from(first_line).wrapping_mul(ODD);
    sum = (sum ^ one).wrapping_mul(ODD);
    sum = (sum ^ two).wrapping_mul(ODD);
    sum = (sum ^ three).wrapping_mul(ODD);
    (sum ^ four).wrapping_mul(ODD)
}

const _: () = assert!(size_of::<PythonLayout>() == 48);
const _: () = assert!(PYTHON_FRAMES.is_power_of_two());
const _: () = assert!(size_of::<PythonRecord>() == 32);
const _: () = assert!(size_of::<PythonFrame>() == 24);
const _: () = assert!(
    size_of::<PythonRoom>()
        >= size_of::<PythonRecord>() + COUNT_MASK as usize * size_of::<PythonFrame>()
);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya asks for it of a map's values")]
mod pod {
    // SAFETY: whole words without padding, and any bytes are one.
    unsafe impl aya::Pod for super::PythonLayout {}
}
