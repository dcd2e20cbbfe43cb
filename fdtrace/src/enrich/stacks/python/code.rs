//! From the address of a code object to a function, its file, and the line.

use std::sync::Arc;

use fdtrace_common::python::{CODE_WORDS, PythonFrame, mix};
use rustc_hash::FxHashMap;

use super::{Interpreter, interpreter::OBJECT_TYPE, lines, memory::Memory};
use crate::enrich::stacks::stack::Frame;

/// Words of a code object that are read.
const WORDS: usize = 19;
/// Characters of a name that are kept.
const NAME_MAX: usize = 1_024;
/// Bytes of a table of lines: a function of some 50 000 lines.
const TABLE_MAX: u64 = 256 << 10;
/// Bytes that are remembered of functions.
const HELD_MAX: usize = 16 << 20;
/// In an object of changing size (bytes) and in a string: how long it is.
const LENGTH: u64 = 16;
/// In a string: how it is kept (`PyASCIIObject.state`).
const STRING_STATE: u64 = 32;
/// In bytes: the first one.
const BYTES: u64 = 32;

/// What a frame is of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// A function.
    Function(Function),
    /// No function: what the interpreter was entered by.
    Entry,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    name: String,
    file: String,
    first_line: u32,
    table: Option<Arc<[u8]>>,
}

/// The functions of one process that have been read.
#[derive(Debug, Default)]
pub struct Functions {
    /// By code object and what it was like.
    known: FxHashMap<(u64, u64), Found>,
    held: usize,
}

impl Functions {
    /// The functions of these frames. One whose code object has gone, or cannot be read, is unknown: never another
    /// one's.
    pub fn frames(
        &mut self,
        interpreter: &Interpreter,
        memory: &impl Memory,
        frames: &[PythonFrame],
    ) -> Vec<Frame> {
        let mut named = Vec::new();
        for frame in frames {
            let key = (frame.code, frame.check);
            if !self.known.contains_key(&key) {
                let Some(found) = interpreter.function(memory, frame) else {
                    named.push(unknown(frame));
                    continue;
                };
                self.keep(key, found);
            }
            if let Some(Found::Function(function)) = self.known.get(&key) {
                named.push(function.frame(interpreter, frame));
            }
        }
        named
    }

    fn keep(&mut self, key: (u64, u64), found: Found) {
        let mut size = size_of::<Found>() + 64;
        if let Found::Function(function) = &found {
            let table = function.table.as_ref().map_or(0, |table| table.len());
            size += function.name.len() + function.file.len() + table;
        }
        if self.held + size > HELD_MAX {
            *self = Self::default();
        }
        self.held += size;
        self.known.insert(key, found);
    }
}

/// The lower half of a word.
fn low(word: u64) -> u32 {
    let [one, two, three, four, ..] = word.to_le_bytes();
    u32::from_le_bytes([one, two, three, four])
}

fn unknown(frame: &PythonFrame) -> Frame {
    Frame {
        function: Some("<unknown>".to_owned()),
        address: frame.code,
        is_interpreted: true,
        ..Frame::default()
    }
}

impl Function {
    fn frame(&self, interpreter: &Interpreter, frame: &PythonFrame) -> Frame {
        let table = self.table.as_deref();
        let line = interpreter
            .offset(frame)
            .zip(table)
            .and_then(|(at, table)| lines::line(interpreter.format, self.first_line, table, at));
        Frame {
            function: Some(self.name.clone()),
            file: Some(self.file.clone()),
            line,
            address: frame.code,
            is_interpreted: true,
            ..Frame::default()
        }
    }
}

impl Interpreter {
    /// How far behind the code's beginning the instruction lies that a frame is at.
    fn offset(&self, frame: &PythonFrame) -> Option<u32> {
        match (self.instructions, self.minor) {
            (Some(begin), _) => {
                let begin = frame.code.checked_add(begin)?;
                u32::try_from(frame.instruction.checked_sub(begin)?).ok()
            }
            // An int, which a word was read of. 3.10 counts instructions, of two bytes each.
            (None, minor) => {
                let index = u32::try_from(low(frame.instruction).cast_signed()).ok()?;
                index.checked_mul(if minor < 10 { 1 } else { 2 })
            }
        }
    }

    /// The frame of a code object as it is now, at this instruction: as kernel programs tell it. `None` where it cannot
    /// be read.
    pub fn frame_at(
        &self,
        memory: &impl Memory,
        code: u64,
        instruction: u64,
    ) -> Option<PythonFrame> {
        let words = words(memory, code)?;
        Some(PythonFrame {
            code,
            instruction,
            check: mix(self.first_line(&words), self.names(&words)),
        })
    }

    fn function(&self, memory: &impl Memory, frame: &PythonFrame) -> Option<Found> {
        if Some(frame.code) == self.none {
            return Some(Found::Entry);
        }
        let code = self.code(memory, frame)?;
        let [_, file, name, table] = self.names(&code);
        // From 3.11 on: file, name, qualified name, table; before: what is behind cells, file, name, table.
        let (file, name) = match self.instructions {
            Some(_) => {
                let [file, name, ..] = self.names(&code);
                (file, name)
            }
            None => (file, name),
        };
        let function = Function {
            name: self.string(memory, name)?,
            file: self.string(memory, file)?,
            first_line: self.first_line(&code),
            table: bytes(memory, table),
        };
        // It may have gone while it was read.
        self.code(memory, frame)?;
        let is_entry = function.name == "<shim>" || function.name == "<interpreter trampoline>";
        Some(if is_entry {
            Found::Entry
        } else {
            Found::Function(function)
        })
    }

    /// A code object's words, if it is still the one that the frame had.
    fn code(&self, memory: &impl Memory, frame: &PythonFrame) -> Option<[u64; WORDS]> {
        let words = words(memory, frame.code)?;
        let kind = words.get(usize::try_from(OBJECT_TYPE / 8).ok()?)?;
        let check = mix(self.first_line(&words), self.names(&words));
        (*kind == self.code_type && check == frame.check).then_some(words)
    }

    fn first_line(&self, code: &[u64; WORDS]) -> u32 {
        let at = self.layout.first_line as usize;
        let word = code.get(at / 8).copied().unwrap_or_default();
        low(word >> (at % 8 * 8))
    }

    fn names(&self, code: &[u64; WORDS]) -> [u64; CODE_WORDS] {
        let at = self.layout.names as usize / 8;
        let words = code.get(at..at + CODE_WORDS);
        words
            .and_then(|words| words.first_chunk().copied())
            .unwrap_or_default()
    }

    /// A string's beginning.
    fn string(&self, memory: &impl Memory, at: u64) -> Option<String> {
        let length = memory.word(at.checked_add(LENGTH)?)?;
        let state = u32::from_le_bytes(memory.array(at.checked_add(STRING_STATE)?)?);
        let (width, is_compact, is_ascii) = ((state >> 2) & 7, state >> 5 & 1, state >> 6 & 1);
        if is_compact == 0 || !matches!(width, 1 | 2 | 4) || length > 1 << 20 {
            return None;
        }
        let (ascii, other) = self.strings;
        let from = at.checked_add(if is_ascii == 1 { ascii } else { other })?;
        let count = usize::try_from(length).ok()?.min(NAME_MAX);
        let mut bytes = vec![0; count * width as usize];
        memory.read(from, &mut bytes)?;
        let letter = |bytes: &[u8]| {
            let mut number = [0; 4];
            number[..bytes.len()].copy_from_slice(bytes);
            char::from_u32(u32::from_le_bytes(number)).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        Some(bytes.chunks_exact(width as usize).map(letter).collect())
    }
}

fn words(memory: &impl Memory, code: u64) -> Option<[u64; WORDS]> {
    let mut bytes = [0; WORDS * 8];
    memory.read(code, &mut bytes)?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Some(words)
}

fn bytes(memory: &impl Memory, at: u64) -> Option<Arc<[u8]>> {
    let length = memory.word(at.checked_add(LENGTH)?)?;
    if length > TABLE_MAX {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    memory.read(at.checked_add(BYTES)?, &mut bytes)?;
    Some(bytes.into())
}
