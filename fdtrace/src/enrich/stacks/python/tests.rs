use std::collections::BTreeMap;

use fdtrace_common::python::{CODE_SPAN, CODE_WORDS, NO_HOP, PythonFrame, PythonLayout, mix};
use proptest::prelude::*;

use super::{Functions, Interpreter, NotRead, Symbols, lines::Format, memory::Memory};

/// Bytes by address.
#[derive(Default)]
struct Made(BTreeMap<u64, u8>);

impl Made {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.0.extend((at..).zip(bytes.iter().copied()));
    }

    fn words(&mut self, at: u64, words: &[u64]) {
        for (at, word) in (at..).step_by(8).zip(words) {
            self.put(at, &word.to_le_bytes());
        }
    }

    /// A string in ASCII, as 3.11 keeps it.
    fn string(&mut self, at: u64, text: &str) {
        self.words(at, &[1, 0, text.len() as u64, 0, 0b110_0101, 0]);
        self.put(at + 48, text.as_bytes());
    }
}

impl Memory for Made {
    fn read(&self, at: u64, to: &mut [u8]) -> Option<()> {
        for (at, byte) in (at..).zip(to) {
            *byte = *self.0.get(&at)?;
        }
        Some(())
    }
}

const CODE_TYPE: u64 = 0x10_0000;
const CODE: u64 = 0x20_0000;
const FILE: u64 = 0x30_0000;
const NAME: u64 = 0x30_1000;
const TABLE: u64 = 0x30_2000;
const STATE: u64 = 0x40_0000;
const FRAME: u64 = 0x41_0000;
const THREAD: u64 = 0x50_0000;
const RUNTIME: u64 = 0x51_0000;
const INTERPRETER: u64 = 0x64_0000;
const INSTRUCTIONS: u64 = 184;

/// A process with 3.11 whose thread is in `load`, at line 7.
fn made() -> Made {
    let mut made = Made::default();
    made.put(CODE_TYPE, &[0; 256]);
    made.words(CODE_TYPE + 24, &[0x60_0000, INSTRUCTIONS]);
    made.put(0x60_0000, b"code\0\0\0\0");
    made.words(CODE_TYPE + 240, &[0x61_0000]);
    let members = [
        ("co_firstlineno", 72),
        ("co_filename", 112),
        ("co_name", 120),
        ("co_linetable", 136),
    ];
    for (index, (name, offset)) in (0_u64..).zip(members) {
        let text = 0x62_0000 + index * 64;
        made.put(text, &[0; 64]);
        made.put(text, name.as_bytes());
        made.words(0x61_0000 + index * 40, &[text, 0, offset, 0, 0]);
    }
    made.words(0x61_0000 + 160, &[0]);
    // Py_Version
    made.words(0x63_0000, &[0x030b_07f0]);
    made.put(CODE, &[0; 256]);
    made.words(CODE + 8, &[CODE_TYPE]);
    made.words(CODE + 72, &[5]);
    made.words(CODE + 112, &[FILE, NAME, NAME, TABLE]);
    made.string(FILE, "/srv/app.py");
    made.string(NAME, "load");
    // Two units without a change, then one two lines on.
    made.words(TABLE, &[1, 0, 4, 0]);
    made.put(TABLE + 32, &[0x81, 0x00, 0xe8, 0x04]);
    made.put(STATE, &[0; 256]);
    made.words(STATE + 16, &[INTERPRETER]);
    made.put(INTERPRETER, &[0; 0x100]);
    made.words(INTERPRETER + 0x38, &[STATE]);
    made.put(RUNTIME, &[0; 0x400]);
    made.words(RUNTIME + 0x28, &[INTERPRETER]);
    made.words(STATE + 56, &[STATE + 64]);
    made.words(STATE + 72, &[FRAME]);
    made.words(STATE + 152, &[THREAD]);
    made.put(FRAME, &[0; 64]);
    made.words(FRAME + 32, &[CODE]);
    made.put(THREAD, &[0; 0x900]);
    made.words(THREAD, &[THREAD]);
    made.words(THREAD + 0x318, &[STATE]);
    made
}

fn symbols() -> Symbols {
    Symbols {
        code_type: CODE_TYPE,
        version: Some(0x63_0000),
        runtime: Some(RUNTIME),
        none: None,
    }
}

fn frame() -> PythonFrame {
    PythonFrame {
        code: CODE,
        instruction: CODE + INSTRUCTIONS + 4,
        check: mix(5, [FILE, NAME, NAME, TABLE]),
    }
}

fn named(made: &Made, frame: PythonFrame) -> Vec<String> {
    let interpreter = Interpreter::find(&self::made(), &symbols(), THREAD).unwrap();
    let frames = Functions::default().frames(&interpreter, made, &[frame]);
    frames.iter().map(ToString::to_string).collect()
}

#[test]
fn an_interpreter_is_found_by_a_thread_of_its_own() {
    let found = Interpreter::find(&made(), &symbols(), THREAD).unwrap();
    assert_eq!(
        found.layout,
        PythonLayout {
            keys: NO_HOP,
            state: 0x318,
            thread_id: 152,
            first: 56,
            hop: 8,
            words: 8,
            code: 4,
            instruction: 7,
            back: 6,
            first_line: 72,
            names: 112,
            padding: 0,
        }
    );
    assert_eq!((found.minor, found.format), (11, Format::Locations));
    // The interpreter leads to its threads, where none is known, or one that is none of its own.
    for pointer in [0, 0x52_0000] {
        let by_list = Interpreter::find(&made(), &symbols(), pointer);
        assert_eq!(by_list.as_ref(), Ok(&found));
    }
    // musl leads there by a pointer.
    let mut musl = made();
    musl.words(THREAD + 0x318, &[0]);
    musl.words(THREAD + 0x80, &[0x70_0000]);
    musl.put(0x70_0000, &[0; 1_024]);
    musl.words(0x70_0008, &[STATE]);
    let layout = Interpreter::find(&musl, &symbols(), THREAD).unwrap().layout;
    assert_eq!((layout.keys, layout.state), (0x80, 8));
}

/// Kernel programs read so many words of a code object, whose first line they take from among them.
#[test]
fn a_first_line_is_among_the_words_that_are_read() {
    for minor in 8..16 {
        let layout = Interpreter::of_version(minor, CODE_TYPE, None)
            .unwrap()
            .layout;
        let end = layout.names + u32::try_from(CODE_WORDS).unwrap() * 8;
        let begin = end - CODE_SPAN * 8;
        assert!(
            (begin..layout.names).contains(&layout.first_line),
            "3.{minor}"
        );
    }
}

/// The same process with a version that tells where it keeps what.
fn made_of(minor: u32) -> Made {
    // Where it tells of a thread's state, and of a frame, and where a state has its thread.
    let (first, thread, previous, id) = match minor {
        13 => (184, 192, 232, 152),
        14 => (208, 216, 256, 152),
        _ => (208, 240, 320, 176),
    };
    let mut made = made();
    made.words(0x63_0000, &[0x0300_0000 + (u64::from(minor) << 16)]);
    // co_firstlineno
    made.words(0x61_0000 + 16, &[68]);
    made.put(RUNTIME, b"xdebugpy");
    made.words(RUNTIME + 40, &[0x300, 0, 0, 0, 0x38]);
    made.words(RUNTIME + 0x300, &[INTERPRETER]);
    made.words(RUNTIME + first, &[72]);
    made.words(RUNTIME + thread, &[id]);
    made.words(RUNTIME + previous, &[8, 0, 56]);
    made.words(STATE + 152, &[0; 4]);
    made.words(STATE + id, &[THREAD]);
    made.words(FRAME, &[CODE | 1]);
    if minor >= 15 {
        made.words(THREAD + 0x318, &[0]);
        made.put(THREAD - 0x400, &[0; 0x400]);
        made.words(THREAD - 0x20, &[STATE]);
    }
    made
}

/// A thread lets go of the interpreter before it opens something, and one of its two ways to the state is gone then.
#[test]
fn a_state_is_where_it_stays_during_a_call() {
    let (mut held, mut other) = (made_of(15), made_of(14));
    held.words(THREAD - 0x80, &[STATE]);
    let found = Interpreter::find(&held, &symbols(), THREAD);
    assert_eq!(found, Err(NotRead::NotYet));
    let found = Interpreter::find(&made_of(15), &symbols(), THREAD).unwrap();
    assert_eq!((found.layout.keys, found.layout.state), (NO_HOP, -0x20));
    // Before that it is a value by key, whatever variables lead there.
    other.put(THREAD - 0x400, &[0; 0x400]);
    other.words(THREAD - 0x20, &[STATE]);
    let found = Interpreter::find(&other, &symbols(), THREAD).unwrap();
    assert_eq!(found.layout.state, 0x318);
}

#[test]
fn what_an_interpreter_says_of_itself_is_compared() {
    for minor in [13, 14, 15] {
        for pointer in [THREAD, 0] {
            let found = Interpreter::find(&made_of(minor), &symbols(), pointer).unwrap();
            assert_eq!((found.minor, found.layout.first), (minor, 72));
        }
        let fault = |change: &dyn Fn(&mut Made)| {
            let mut made = made_of(minor);
            change(&mut made);
            Interpreter::find(&made, &symbols(), THREAD).unwrap_err()
        };
        assert_eq!(
            fault(&|made| made.words(RUNTIME + 16, &[1])),
            NotRead::FreeThreaded
        );
        for at in [
            0, 184, 192, 208, 216, 232, 240, 256, 264, 272, 320, 328, 336,
        ] {
            let is_told = made_of(minor).word(RUNTIME + at) != Some(0);
            let changed = |made: &mut Made| made.words(RUNTIME + at, &[48]);
            let mut other = made_of(minor);
            changed(&mut other);
            let found = Interpreter::find(&other, &symbols(), THREAD);
            assert!(!is_told || found == Err(NotRead::Unknown), "{minor} {at}");
        }
        assert_eq!(
            fault(&|made| made.words(FRAME, &[FILE])),
            NotRead::NotYet,
            "in no function"
        );
    }
}

#[test]
fn what_contradicts_the_table_is_no_interpreter() {
    let is_found = |change: &dyn Fn(&mut Made)| {
        let mut made = made();
        change(&mut made);
        Interpreter::find(&made, &symbols(), THREAD).is_ok()
    };
    assert!(is_found(&|_| {}));
    assert!(!is_found(&|made| made.put(0x60_0000, b"cell\0")));
    assert!(
        !is_found(&|made| made.words(0x61_0000 + 16, &[68])),
        "another offset"
    );
    assert!(
        !is_found(&|made| made.words(0x63_0000, &[0x0310_0000])),
        "3.16"
    );
    assert!(
        !is_found(&|made| made.words(STATE + 152, &[THREAD + 8])),
        "another thread's"
    );
    assert!(
        !is_found(&|made| made.words(FRAME + 32, &[FILE])),
        "no code object"
    );
}

#[test]
fn a_function_has_its_file_and_line_or_is_unknown() {
    assert_eq!(named(&made(), frame()), ["load (/srv/app.py:7)"]);
    let begins = PythonFrame {
        instruction: CODE + INSTRUCTIONS - 2,
        ..frame()
    };
    assert_eq!(named(&made(), begins), ["load (/srv/app.py)"]);
    // The address has become another function's: one of the same file, at another line, or no function at all.
    for (at, word) in [(120, FILE), (112, NAME), (136, FILE), (72, 6), (8, FILE)] {
        let mut reused = made();
        reused.words(CODE + at, &[word]);
        assert_eq!(named(&reused, frame()), ["<unknown>"], "{at}");
    }
    let mut freed = made();
    freed.0.retain(|at, _| *at < NAME || *at >= NAME + 64);
    assert_eq!(named(&freed, frame()), ["<unknown>"]);
}

/// Memory that answers anything, the same at the same address.
struct Noise(u64);

impl Memory for Noise {
    fn read(&self, at: u64, to: &mut [u8]) -> Option<()> {
        for (at, byte) in (0_u64..)
            .zip(to)
            .map(|(index, byte)| (at.wrapping_add(index), byte))
        {
            let word = ((at / 8) ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // Some words are small, some lead to places.
            let word = match word >> 62 {
                0 => word >> 58,
                1 => (word >> 20) & !7,
                _ => word,
            };
            *byte = word.to_le_bytes()[usize::try_from(at % 8).ok()?];
        }
        (self.0 & 15 != 3).then_some(())
    }
}

proptest! {
    #[test]
    fn any_memory_is_survived(seed: u64, code_type: u64, pointer: u64, code: u64, instruction: u64) {
        let symbols = Symbols { code_type, version: Some(code), runtime: Some(pointer), none: None };
        let _ = Interpreter::find(&Noise(seed), &symbols, pointer);
        let interpreter = Interpreter::find(&made(), &self::symbols(), THREAD).unwrap();
        let frame = PythonFrame { code, instruction, check: seed };
        Functions::default().frames(&interpreter, &Noise(seed), &[frame]);
    }
}
