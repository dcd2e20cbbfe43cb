//! Which interpreter a process has, and where it keeps what.

use std::collections::BTreeMap;

use fdtrace_common::python::{FRAME_WORDS, NO_HOP, PythonLayout, SHORT_FRAME_WORDS};
use serde::{Deserialize, Serialize};

use super::{lines::Format, memory::Memory, symbols::Symbols};

/// In a type object, the same from 3.8 to 3.15 (`PyTypeObject` in Include/cpython/object.h): its name, the size of its
/// instances, what it says of their members.
const TYPE_NAME: u64 = 24;
const TYPE_SIZE: u64 = 32;
const TYPE_MEMBERS: u64 = 240;
/// A member's description (`PyMemberDef`): name, type, offset.
const MEMBER: u64 = 40;
const MEMBER_OFFSET: u64 = 16;
/// Members of a type that are read.
const MEMBERS: u64 = 64;
/// In each object: its type.
pub(super) const OBJECT_TYPE: u64 = 8;
/// In a thread's state, 3.8 to 3.15: the interpreter that it belongs to.
const STATE_INTERPRETER: u64 = 16;

/// What libraries of C keep of a thread is within so many bytes behind its pointer.
const THREAD: usize = 0x900;
/// Where in that they may have a pointer to values by key: musl's `tsd`; glibc's `specific`, whose first block is in
/// the structure itself.
const KEYS: [std::ops::Range<u64>; 2] = [0x8..0x100, 0x510..0x610];
/// Values by key that are looked at behind such a pointer.
const VALUES: usize = 128;
/// From this version on the state is a variable of the thread (`_Py_tss_gilstate` in Python/pystate.c), and no value by key.
const STATE_IS_VARIABLE: u32 = 15;
/// Such variables of programs, and of libraries that were linked at the start, are so near before the thread's pointer.
const VARIABLES: usize = 0x1000;

/// Why the functions of an interpreter are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotRead {
    /// It has not begun, or is in none of its functions: another look may find it.
    NotYet,
    /// It is free-threaded: it keeps objects in another way, and each thread has instructions of its own.
    FreeThreaded,
    /// It keeps things where no version does that is known.
    Unknown,
}

/// Where versions differ. Offsets of the interpreters' own headers; from 3.13 on they are compared with what
/// `_Py_DebugOffsets` says.
struct Version {
    thread_id: u32,
    first: u32,
    hop: u32,
    words: u32,
    code: u32,
    instruction: u32,
    back: u32,
    first_line: u32,
    table: (&'static [u8], u32),
    format: Format,
    /// Bytes before the characters of a string in ASCII, and of another one.
    strings: (u64, u64),
}

/// `_PyStackRef`s and 3.10's frames apart, each row is `offsetof` of these members.
fn version(minor: u32) -> Option<Version> {
    // f_back, f_code and f_lasti of PyFrameObject.
    let old = Version {
        thread_id: 176,
        first: 24,
        hop: NO_HOP,
        words: FRAME_WORDS,
        code: 32,
        instruction: 104,
        back: 24,
        first_line: 40,
        table: (b"co_lnotab", 120),
        format: Format::Lnotab,
        strings: (48, 72),
    };
    // f_code, prev_instr and previous of _PyInterpreterFrame, to which PyThreadState.cframe leads.
    let new = Version {
        thread_id: 136,
        first: 56,
        hop: 0,
        words: SHORT_FRAME_WORDS,
        code: 0,
        instruction: 56,
        back: 8,
        first_line: 68,
        table: (b"co_linetable", 136),
        format: Format::Locations,
        strings: (40, 56),
    };
    Some(match minor {
        8 | 9 => old,
        10 => Version {
            instruction: 96,
            table: (b"co_linetable", 120),
            format: Format::Ranges,
            ..old
        },
        11 => Version {
            thread_id: 152,
            hop: 8,
            code: 32,
            back: 48,
            first_line: 72,
            strings: (48, 72),
            ..new
        },
        12 => new,
        13 | 14 => Version {
            thread_id: 152,
            first: 72,
            hop: NO_HOP,
            ..new
        },
        15 => Version {
            thread_id: 176,
            first: 72,
            hop: NO_HOP,
            ..new
        },
        _ => return None,
    })
}

/// What interpreters say of themselves from 3.13 on: `_Py_DebugOffsets`, with which `_PyRuntime` begins.
///
/// Sources: `Include/internal/pycore_runtime.h` of 3.13, `Include/internal/pycore_debug_offsets.h` since; what 3.14.10 and
/// 3.15.2 hold was looked at in Debian's files.
mod told {
    use super::{super::memory::Memory, Version};

    const COOKIE: u64 = u64::from_le_bytes(*b"xdebugpy");
    /// 1 in a free-threaded build.
    pub(super) const FREE_THREADED: u64 = 16;
    /// Where in the runtime its interpreters begin, and in an interpreter its threads.
    pub(super) const INTERPRETERS: u64 = 40;
    /// See [`INTERPRETERS`].
    pub(super) const THREADS: u64 = 72;

    /// Where it has what it says of a thread's state and of a frame.
    struct Places {
        current_frame: u64,
        thread_id: u64,
        previous: u64,
        executable: u64,
        instruction: u64,
    }

    fn places(minor: u32) -> Option<Places> {
        let of = |current_frame, thread_id, previous| Places {
            current_frame,
            thread_id,
            previous,
            executable: previous + 8,
            instruction: previous + 16,
        };
        Some(match minor {
            13 => of(184, 192, 232),
            14 => of(208, 216, 256),
            15 => of(208, 240, 320),
            _ => return None,
        })
    }

    /// Is it where we take it to be?
    pub(super) fn agrees(
        memory: &impl Memory,
        runtime: u64,
        minor: u32,
        version: &Version,
    ) -> bool {
        let Some(places) = places(minor) else {
            return false;
        };
        let expected = [
            (0, COOKIE),
            (places.current_frame, u64::from(version.first)),
            (places.thread_id, u64::from(version.thread_id)),
            (places.previous, u64::from(version.back)),
            (places.executable, u64::from(version.code)),
            (places.instruction, u64::from(version.instruction)),
        ];
        let is_so =
            |(at, value): &(u64, u64)| memory.word(runtime.wrapping_add(*at)) == Some(*value);
        expected.iter().all(is_so)
    }
}

/// An interpreter in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Where it keeps what, for kernel programs.
    pub layout: PythonLayout,
    /// The second number of its version.
    pub minor: u32,
    pub(super) format: Format,
    pub(super) code_type: u64,
    pub(super) none: Option<u64>,
    /// Where in a code object its instructions begin, from 3.11 on; before that they are no part of it.
    pub(super) instructions: Option<u64>,
    pub(super) strings: (u64, u64),
}

impl Interpreter {
    /// The interpreter that has these symbols, by the thread with this pointer or by any that it knows: one must be in a
    /// function. `thread_pointer` is 0 where no thread is known.
    pub(crate) fn find(
        memory: &impl Memory,
        symbols: &Symbols,
        thread_pointer: u64,
    ) -> Result<Self, NotRead> {
        let mut interpreter = Self::identify(memory, symbols)?;
        let mut has_state = |pointer: u64| interpreter.find_state(memory, pointer).is_some();
        let mut is_found = thread_pointer != 0 && has_state(thread_pointer);
        if let Some(runtime) = symbols.runtime.filter(|_| !is_found) {
            let (minor, thread_id) = (interpreter.minor, interpreter.layout.thread_id);
            let mut threads = threads(memory, runtime, minor, thread_id).into_iter();
            is_found = threads.any(|pointer| interpreter.find_state(memory, pointer).is_some());
        }
        if is_found {
            Ok(interpreter)
        } else {
            Err(NotRead::NotYet)
        }
    }

    /// Which version it is, if it keeps everything where that version does. Its types are there before it begins.
    fn identify(memory: &impl Memory, symbols: &Symbols) -> Result<Self, NotRead> {
        let word = |at: u64| memory.word(at).ok_or(NotRead::NotYet);
        let hex = symbols.version.map(|at| memory.array(at));
        let hex = hex.map(|hex| hex.map(u32::from_le_bytes).ok_or(NotRead::NotYet));
        let hex = hex.transpose()?;
        let told = hex.and_then(|hex| (hex >> 24 == 3).then_some((hex >> 16) & 0xff));
        if told.is_some_and(|minor| minor >= 13) {
            let runtime = symbols.runtime.ok_or(NotRead::Unknown)?;
            if word(runtime.wrapping_add(told::FREE_THREADED))? == 1 {
                return Err(NotRead::FreeThreaded);
            }
        }
        let name = word(symbols.code_type.wrapping_add(TYPE_NAME))?;
        if memory.text(name).ok_or(NotRead::NotYet)? != b"code" {
            return Err(NotRead::Unknown);
        }
        let members = members(memory, symbols.code_type).ok_or(NotRead::NotYet)?;
        let has = |name: &[u8]| members.contains_key(name);
        let minor = match (hex, told) {
            (Some(_), told) => told,
            // What came to be a member with 3.10 and with 3.8.
            (None, _) if has(b"co_linetable") => Some(10),
            (None, _) if has(b"co_posonlyargcount") => Some(9),
            (None, _) => None,
        };
        let minor = minor.ok_or(NotRead::Unknown)?;
        let version = version(minor).ok_or(NotRead::Unknown)?;
        let names: u32 = if minor < 11 { 104 } else { 112 };
        let (table, at) = version.table;
        let expected = [
            (&b"co_filename"[..], names),
            (b"co_name", names + 8),
            (b"co_firstlineno", version.first_line),
            (table, at),
        ];
        let is_so = |(name, offset): &(&[u8], u32)| members.get(*name) == Some(&u64::from(*offset));
        let is_known = expected.iter().all(is_so)
            && (minor < 13
                || symbols
                    .runtime
                    .is_some_and(|runtime| told::agrees(memory, runtime, minor, &version)));
        if !is_known {
            return Err(NotRead::Unknown);
        }
        let instructions = match minor {
            ..11 => None,
            _ => Some(word(symbols.code_type.wrapping_add(TYPE_SIZE))?),
        };
        Ok(Self::of(&version, minor, symbols, instructions))
    }

    /// One of a version whose type of code objects lies there, for whoever knows that already: where its threads have
    /// their states stays unknown. `None`: the version is none that is read.
    #[must_use]
    pub fn of_version(minor: u32, code_type: u64, instructions: Option<u64>) -> Option<Self> {
        let symbols = Symbols {
            code_type,
            ..Symbols::default()
        };
        let instructions = instructions.filter(|_| minor >= 11);
        Some(Self::of(&version(minor)?, minor, &symbols, instructions))
    }

    fn of(version: &Version, minor: u32, symbols: &Symbols, instructions: Option<u64>) -> Self {
        let (_, table) = version.table;
        Self {
            layout: PythonLayout {
                keys: NO_HOP,
                state: 0,
                thread_id: version.thread_id,
                first: version.first,
                hop: version.hop,
                words: version.words,
                code: version.code / 8,
                instruction: version.instruction / 8,
                back: version.back / 8,
                first_line: version.first_line,
                // Up to 3.10 the table of lines is the last of four, since then as well.
                names: table - 24,
                padding: 0,
            },
            minor,
            format: version.format,
            code_type: symbols.code_type,
            none: symbols.none,
            instructions,
            strings: version.strings,
        }
    }

    /// Where the thread's own memory leads to its state. No library is asked: it is the word that leads to a state of
    /// this very thread, in a function of this interpreter.
    fn find_state(&mut self, memory: &impl Memory, thread_pointer: u64) -> Option<()> {
        let is_state = |(_, word): &(u64, u64)| self.is_state(memory, *word, thread_pointer);
        if self.minor >= STATE_IS_VARIABLE {
            let before = variables(memory, thread_pointer);
            let mut states = before.iter().filter(|word| is_state(word));
            let (at, _) = states.next()?;
            // Of two, one is gone whenever the thread lets go of the interpreter, as it does to open something.
            if states.next().is_some() {
                return None;
            }
            self.layout.state = -i32::try_from(VARIABLES as u64 - at).ok()?;
            return Some(());
        }
        let mut thread = [0; THREAD];
        let mut length = THREAD;
        while memory.read(thread_pointer, &mut thread[..length]).is_none() {
            length /= 2;
            if length < 0x100 {
                return None;
            }
        }
        let own = pointers(&thread[..length]);
        if let Some((at, _)) = own.iter().find(|word| is_state(word)) {
            self.layout.state = i32::try_from(*at).ok()?;
            return Some(());
        }
        let may_lead = |at: &u64| KEYS.iter().any(|range| range.contains(at));
        for (keys, pointer) in own.iter().filter(|(at, _)| may_lead(at)) {
            let mut values = [0; VALUES * 8];
            if memory.read(*pointer, &mut values).is_none() {
                continue;
            }
            let values = pointers(&values);
            if let Some((at, _)) = values.iter().find(|word| is_state(word)) {
                self.layout.keys = u32::try_from(*keys).ok()?;
                self.layout.state = i32::try_from(*at).ok()?;
                return Some(());
            }
        }
        None
    }

    fn is_state(&self, memory: &impl Memory, state: u64, thread_pointer: u64) -> bool {
        let layout = &self.layout;
        if memory.word(state + u64::from(layout.thread_id)) != Some(thread_pointer) {
            return false;
        }
        let is_in_function = || {
            memory.word(memory.word(state + STATE_INTERPRETER)?)?;
            let mut frame = memory.word(state + u64::from(layout.first))?;
            if layout.hop != NO_HOP {
                frame = memory.word(frame.checked_add(layout.hop.into())?)?;
            }
            // What the interpreter was entered by may come first, and is no function.
            for _ in 0..4 {
                let word = |index: u32| memory.word(frame.checked_add(u64::from(index) * 8)?);
                let code = word(layout.code)? & !7;
                if memory.word(code.checked_add(OBJECT_TYPE)?)? == self.code_type {
                    return Some(());
                }
                frame = word(layout.back)?;
            }
            None
        };
        is_in_function().is_some()
    }
}

/// The thread pointers of the threads that an interpreter knows, some at most. From 3.13 on it says where its list
/// begins; before that, it is looked for: a state leads back to its interpreter, and to a thread that leads to itself.
fn threads(memory: &impl Memory, runtime: u64, minor: u32, thread_id: u32) -> Vec<u64> {
    const RUNTIME: usize = 0x400;
    const INTERPRETER: usize = 0x100;
    const THREADS: usize = 64;
    /// The next one in the list (`PyThreadState.next`).
    const NEXT: u64 = 8;
    let pointer_of = |state: u64, interpreter: u64| {
        let is_its = memory.word(state.checked_add(STATE_INTERPRETER)?)? == interpreter;
        let pointer = memory.word(state.checked_add(thread_id.into())?)?;
        let is_thread = is_pointer(pointer) && memory.word(pointer)? == pointer;
        (is_its && is_thread).then_some(pointer)
    };
    let told = || {
        let at = memory.word(runtime.wrapping_add(told::INTERPRETERS))?;
        let interpreter = memory.word(runtime.wrapping_add(at))?;
        let at = memory.word(runtime.wrapping_add(told::THREADS))?;
        let state = memory.word(interpreter.wrapping_add(at))?;
        Some((interpreter, state))
    };
    let searched = || {
        let mut bytes = [0; RUNTIME];
        memory.read(runtime, &mut bytes)?;
        pointers(&bytes).into_iter().find_map(|(_, interpreter)| {
            let mut bytes = [0; INTERPRETER];
            memory.read(interpreter, &mut bytes)?;
            let mut states = pointers(&bytes).into_iter().map(|(_, state)| state);
            let state = states.find(|state| pointer_of(*state, interpreter).is_some())?;
            Some((interpreter, state))
        })
    };
    let first = if minor >= 13 { told() } else { searched() };
    let mut threads = Vec::new();
    let Some((interpreter, mut state)) = first else {
        return threads;
    };
    for _ in 0..THREADS {
        threads.extend(pointer_of(state, interpreter));
        match memory.word(state.wrapping_add(NEXT)) {
            Some(next) if is_pointer(next) => state = next,
            _ => break,
        }
    }
    threads
}

/// What may be addresses among a thread's own variables, and where they are behind the first of [`VARIABLES`] bytes.
fn variables(memory: &impl Memory, thread_pointer: u64) -> Vec<(u64, u64)> {
    let mut bytes = [0; VARIABLES];
    let mut length = VARIABLES;
    loop {
        let from = thread_pointer.saturating_sub(length as u64);
        let part = &mut bytes[VARIABLES - length..];
        if memory.read(from, part).is_some() {
            return pointers(&bytes);
        }
        length /= 2;
        if length < 0x40 {
            return Vec::new();
        }
    }
}

/// The words among some bytes that can be addresses, and where they are.
fn pointers(bytes: &[u8]) -> Vec<(u64, u64)> {
    let words = bytes.as_chunks().0.iter().zip(0_u64..);
    let words = words.map(|(bytes, index)| (index * 8, u64::from_le_bytes(*bytes)));
    words.filter(|(_, word)| is_pointer(*word)).collect()
}

fn is_pointer(word: u64) -> bool {
    word.is_multiple_of(8) && (0x1_0000..1 << 47).contains(&word)
}

/// What a type says of its instances' members: offsets by name.
fn members(memory: &impl Memory, of: u64) -> Option<BTreeMap<Vec<u8>, u64>> {
    let mut members = BTreeMap::new();
    let first = memory.word(of.checked_add(TYPE_MEMBERS)?)?;
    for index in 0..MEMBERS {
        let member = first.checked_add(index * MEMBER)?;
        let name = memory.word(member)?;
        if name == 0 {
            break;
        }
        let offset = memory.word(member.checked_add(MEMBER_OFFSET)?)?;
        members.insert(memory.text(name)?, offset);
    }
    Some(members)
}
