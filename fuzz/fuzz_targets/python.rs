//! Code objects in memory that the fuzzer has written: what any interpreter's owner could show.
#![no_main]

use fdtrace::enrich::stacks::python::{Functions, Interpreter, PythonFrame, lines, memory::Memory};
use libfuzzer_sys::fuzz_target;

/// The input, again and again, at every address but for every sixteenth page.
struct Input<'a>(&'a [u8]);

impl Memory for Input<'_> {
    fn read(&self, at: u64, to: &mut [u8]) -> Option<()> {
        let length = self.0.len() as u64;
        for (index, byte) in (0_u64..).zip(to) {
            let at = at.wrapping_add(index);
            if (at >> 12) % 16 == 15 {
                return None;
            }
            *byte = *self.0.get((at % length.max(1)) as usize)?;
        }
        Some(())
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<25>() else {
        return;
    };
    let word = |index: usize| {
        let bytes = head[index * 8..].first_chunk();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let minor = 7 + u32::from(head[24]) % 10;
    let memory = Input(rest);
    if let Some(interpreter) = Interpreter::of_version(minor, word(0), Some(word(1) % 256)) {
        // Of its own check, so that it is read to its end.
        let frame = interpreter.frame_at(&memory, word(2), word(1));
        let frames: Vec<PythonFrame> = frame.into_iter().collect();
        let named = Functions::default().frames(&interpreter, &memory, &frames);
        assert!(named.len() <= 1);
    }
    for format in [
        lines::Format::Lnotab,
        lines::Format::Ranges,
        lines::Format::Locations,
    ] {
        let _ = lines::line(format, word(0) as u32, rest, word(1) as u32);
    }
});
