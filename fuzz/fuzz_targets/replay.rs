//! A recording of any bytes, read into the model as `--replay` does.
#![no_main]

use fdtrace::{
    engine::change::{Change, Sink},
    enrich::lookup::{Lookup, Recorded},
    model::tables::reconcile::Pass,
    stream::recording::{Item, Note, Reader, first_line, seal},
    tracker::{Handler, Known, Tracker},
};
use libfuzzer_sys::fuzz_target;

/// Hears of everything, and keeps nothing.
struct Listener;

impl Sink for Listener {
    fn change(&mut self, _: Change, name: &[u8]) {
        std::hint::black_box(name);
    }
}

impl Handler for Listener {
    fn alarm(&mut self, record: &[u8], _: &mut Known<'_>) {
        let _ = std::hint::black_box(fdtrace::stream::decode::Alarm::decode(record));
    }
}

fn read(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else {
        return;
    };
    let mut tracker = Tracker::of_recording();
    let mut recorded = Recorded::default();
    let mut pass: Option<Pass> = None;
    while let Ok(Some(item)) = reader.item() {
        match (item, &mut pass) {
            (Item::Record(record), _) => tracker.take(record, &mut Listener),
            (Item::Thread(thread), Some(pass)) => pass.thread(*thread),
            (Item::Slot(slot), Some(pass)) => tracker.show_slot(pass, slot),
            (Item::Note(Note::PassBegun), _) => pass = Some(tracker.begin_pass(&mut Listener)),
            (Item::Note(Note::PassEnded { purpose, .. }), _) => {
                if let Some(pass) = pass.take() {
                    tracker.end_pass(pass, purpose, &mut Listener);
                }
            }
            (Item::Note(Note::Taken { slot, number }), _) => tracker.expect_resolved(slot, number),
            (
                Item::Note(Note::Stack {
                    stack,
                    opened,
                    numbers,
                }),
                _,
            ) => {
                if numbers.is_empty() {
                    tracker.take_resolved(stack.into(), &opened);
                } else {
                    tracker.take_expected(stack.into(), numbers);
                }
            }
            (Item::Note(Note::Looked(looked)), _) => recorded.learn(looked),
            (Item::Note(Note::Answered { .. }), _) => tracker.forget_gone(),
            _ => {}
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // As they are; and as the items of a chunk whose checksums are right.
    read(bytes);
    let mut file = first_line();
    file.extend(seal(bytes, 0));
    read(&file);
});
