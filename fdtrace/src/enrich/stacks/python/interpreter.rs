//! Which interpreter a process has, and where it keeps what.

use std::collections::BTreeMap;

use fdtrace_common::python::{FRAME_WORDS, NO_HOP, PythonLayout, SHORT_FRAME_WORDS};

use super::{lines::Format, memory::Memory, symbols::Symbols};

/// In a type object, the same from 3.8 to 3.14 (`PyTypeObject` in Include/cpython/object.h): its name, the size of its
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
/// In a thread's state, 3.8 to 3.13: the interpreter that it belongs to.
const STATE_INTERPRETER: u64 = 16;

/// What kept libraries of C keep of a thread is within so many bytes of its pointer.
const THREAD: usize = 0x900;
/// Where in that they may have a pointer to values by key: musl's `tsd`; glibc's `specific`, whose first block is in
/// the structure itself.
const KEYS: [std::ops::Range<u64>; 2] = [0x8..0x100, 0x510..0x610];
/// Values by key that are looked at behind such a pointer.
const VALUES: usize = 128;

/// Where versions differ. Offsets of the interpreters' own headers; 3.13's are what its `_Py_DebugOffsets` says.
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
        13 => Version {
            thread_id: 152,
            first: 72,
            hop: NO_HOP,
            ..new
        },
        _ => return None,
    })
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
    ) -> Option<Self> {
        let members = members(memory, symbols.code_type)?;
        let is_named =
            memory.text(memory.word(symbols.code_type.wrapping_add(TYPE_NAME))?)? == b"code";
        if !is_named {
            return None;
        }
        let minor = match symbols.version {
            Some(at) => {
                let hex = u32::from_le_bytes(memory.array(at)?);
                (hex >> 24 == 3).then_some((hex >> 16) & 0xff)?
            }
            // What came to be a member with 3.10 and with 3.8.
            None if members.contains_key(&b"co_linetable"[..]) => 10,
            None if members.contains_key(&b"co_posonlyargcount"[..]) => 9,
            None => return None,
        };
        let version = version(minor)?;
        let names: u32 = if minor < 11 { 104 } else { 112 };
        let (table, at) = version.table;
        let told = [
            (&b"co_filename"[..], names),
            (b"co_name", names + 8),
            (b"co_firstlineno", version.first_line),
            (table, at),
        ];
        let is_so = |(name, offset): &(&[u8], u32)| members.get(*name) == Some(&u64::from(*offset));
        if !told.iter().all(is_so) {
            return None;
        }
        if minor >= 13 && !is_as_told(memory, symbols.runtime?, &version) {
            return None;
        }
        let instructions = match minor {
            ..11 => None,
            _ => Some(memory.word(symbols.code_type.wrapping_add(TYPE_SIZE))?),
        };
        let mut interpreter = Self::of(&version, minor, symbols, instructions);
        let mut has_state = |pointer: u64| interpreter.find_state(memory, pointer).is_some();
        let is_found = thread_pointer != 0 && has_state(thread_pointer)
            || threads(memory, symbols.runtime?, minor, version.thread_id)
                .into_iter()
                .any(has_state);
        is_found.then_some(interpreter)
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
        let mut thread = [0; THREAD];
        let mut length = THREAD;
        while memory.read(thread_pointer, &mut thread[..length]).is_none() {
            length /= 2;
            if length < 0x100 {
                return None;
            }
        }
        let own = pointers(&thread[..length]);
        for (at, word) in &own {
            if self.is_state(memory, *word, thread_pointer) {
                self.layout.state = u32::try_from(*at).ok()?;
                return Some(());
            }
        }
        let may_lead = |at: &u64| KEYS.iter().any(|range| range.contains(at));
        for (keys, pointer) in own.iter().filter(|(at, _)| may_lead(at)) {
            let mut values = [0; VALUES * 8];
            if memory.read(*pointer, &mut values).is_none() {
                continue;
            }
            for (at, word) in pointers(&values) {
                if self.is_state(memory, word, thread_pointer) {
                    self.layout.keys = u32::try_from(*keys).ok()?;
                    self.layout.state = u32::try_from(at).ok()?;
                    return Some(());
                }
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
    /// In `_Py_DebugOffsets`: where the runtime's interpreters begin, and an interpreter's threads.
    const TOLD: (u64, u64) = (40, 72);
    let pointer_of = |state: u64, interpreter: u64| {
        let is_its = memory.word(state.checked_add(STATE_INTERPRETER)?)? == interpreter;
        let pointer = memory.word(state.checked_add(thread_id.into())?)?;
        let is_thread = is_pointer(pointer) && memory.word(pointer)? == pointer;
        (is_its && is_thread).then_some(pointer)
    };
    let told = || {
        let at = memory.word(runtime.wrapping_add(TOLD.0))?;
        let interpreter = memory.word(runtime.wrapping_add(at))?;
        let at = memory.word(runtime.wrapping_add(TOLD.1))?;
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

/// Does 3.13 say the same of itself (`_Py_DebugOffsets`, `Include/internal/pycore_runtime.h`)? Its free-threaded build
/// keeps objects in another way, and is none of those that are read.
fn is_as_told(memory: &impl Memory, runtime: u64, version: &Version) -> bool {
    const COOKIE: u64 = u64::from_le_bytes(*b"xdebugpy");
    let told = [
        (0, COOKIE),
        // free_threaded
        (16, 0),
        // thread_state: current_frame, thread_id
        (184, u64::from(version.first)),
        (192, u64::from(version.thread_id)),
        // interpreter_frame: previous, executable, instr_ptr
        (232, u64::from(version.back)),
        (240, u64::from(version.code)),
        (248, u64::from(version.instruction)),
    ];
    let is_so = |(at, wanted): &(u64, u64)| memory.word(runtime.wrapping_add(*at)) == Some(*wanted);
    told.iter().all(is_so)
}
