//! Records of any bytes, as the ring and the iterators hand them over.
#![no_main]

use fdtrace::{
    engine::change::Change,
    ground::task::Task,
    model::tables::{Calls, Tables},
    stream::{
        decode::Alarm,
        files,
        record::Record,
    },
};
use libfuzzer_sys::fuzz_target;

/// Sizes of the ring's records, which every kind has one of.
const SIZES: [usize; 9] = [8, 48, 56, 64, 120, 208, 528, 560, 4256];

fuzz_target!(|bytes: &[u8]| {
    let _ = Alarm::decode(bytes);
    let _ = Task::decode_all(bytes);
    let _ = files::decode(bytes, |_| Vec::new(), &mut Vec::new());
    let mut tables = Tables::new(Calls::default());
    let mut changes: Vec<Change> = Vec::new();
    let mut rest = bytes;
    // A record is its size, as an index, and its bytes; what is missing of them is 0.
    while let Some((size, after)) = rest.split_first() {
        let size = SIZES[usize::from(*size) % SIZES.len()];
        let (content, after) = after.split_at(after.len().min(size));
        rest = after;
        let mut words = vec![0_u64; size / 8];
        for (word, bytes) in words.iter_mut().zip(content.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        let record: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // The allocator gives bytes a place at a multiple of 16.
        if let Ok(Record::Change(change)) = Record::read(&record) {
            tables.apply(change, &mut changes);
        }
        changes.clear();
    }
});
