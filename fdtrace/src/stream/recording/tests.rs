//! What is written comes back; what is cut off comes back up to there; anything else is refused.

use fdtrace_common::{change::CloseRecord, record::RECORD_CLOSED};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;

fn close(fd: u32) -> CloseRecord {
    CloseRecord {
        kind: RECORD_CLOSED,
        fd,
        time_ns: 1_000_000 + u64::from(fd) * 977,
        files: 0xffff_8880_0000_1000,
        file: 0xffff_8880_0000_2000 + u64::from(fd) * 192,
        ..CloseRecord::new_zeroed()
    }
}

/// A recording of so many closings and a note, so many to a chunk.
fn written(count: u32, per_chunk: u32) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = first_line();
    let mut chunks = 0;
    let mut hand_over = |encoder: &mut Encoder| {
        if let Some(mut chunk) = encoder.take() {
            number(&mut chunk, chunks);
            chunks += 1;
            bytes.extend(chunk);
        }
    };
    for fd in 0..count {
        encoder.add(Event::Record(close(fd).as_bytes()));
        if (fd + 1) % per_chunk == 0 {
            hand_over(&mut encoder);
        }
    }
    encoder.add(Event::Note(&Note::Ended { tgid: 7 }));
    hand_over(&mut encoder);
    bytes
}

/// What can be read: the numbers of closings, whether the note came, and what ended it.
fn read(bytes: &[u8]) -> (Vec<u32>, bool, Option<Unreadable>) {
    let (mut fds, mut has_note) = (Vec::new(), false);
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (fds, has_note, Some(error)),
    };
    loop {
        match reader.item() {
            Ok(Some(Item::Record(bytes))) => {
                assert_eq!(bytes.as_ptr().align_offset(8), 0);
                fds.push(u32::from_ne_bytes(bytes[4..8].try_into().unwrap()));
            }
            Ok(Some(Item::Note(note))) => has_note = note == Note::Ended { tgid: 7 },
            Ok(Some(item)) => panic!("{item:?}"),
            Ok(None) => return (fds, has_note, None),
            Err(error) => return (fds, has_note, Some(error)),
        }
    }
}

#[test]
fn everything_comes_back() {
    for per_chunk in [1, 7, 1000] {
        let bytes = written(100, per_chunk);
        let (fds, has_note, error) = read(&bytes);
        assert!(fds.into_iter().eq(0..100) && has_note && error.is_none());
    }
}

#[test]
fn records_are_small() {
    let bytes = written(1000, 1000);
    assert!(bytes.len() < 1000 * 13, "{} bytes", bytes.len());
}

#[test]
fn a_file_that_is_cut_off_is_read_up_to_its_last_whole_item() {
    let bytes = written(50, 10);
    let mut before = 0;
    for length in first_line().len()..bytes.len() {
        let (fds, has_note, error) = read(&bytes[..length]);
        assert!(error.is_none(), "{length}: {error:?}");
        assert!((0..).zip(&fds).all(|(number, fd)| number == *fd) && !has_note);
        assert!(fds.len() >= before);
        before = fds.len();
    }
    assert_eq!(before, 50);
}

#[test]
fn chunks_that_are_missing_are_a_hole() {
    let bytes = written(30, 10);
    let chunk = |at: usize| {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at + 16 + length as usize
    };
    let first = chunk(first_line().len());
    let third = chunk(first);
    let holed = [&bytes[..first], &bytes[third..]].concat();
    let mut reader = Reader::new(&holed[..]).unwrap();
    let mut items = Vec::new();
    while let Some(item) = reader.item().unwrap() {
        items.push(format!("{item:?}"));
    }
    assert_eq!(items.len(), 10 + 1 + 10 + 1);
    assert_eq!(items[10], "Hole(1)");
}

#[test]
fn what_is_no_recording_is_refused_in_one_line() {
    for (bytes, expected) in [
        (&b""[..], "this is no recording of fdtrace's"),
        (b"\x7fELF\x02\x01\x01", "this is no recording of fdtrace's"),
        (&[b'x'; 5000], "this is no recording of fdtrace's"),
        (
            b"fdtrace recording 9\nxxx",
            "this is a recording of version 9, and this fdtrace reads version 1",
        ),
        (
            b"fdtrace recording \x1b[2J\n",
            "this is a recording of version \\u{1b}[2J, and this fdtrace reads version 1",
        ),
    ] {
        let (_, _, error) = read(bytes);
        assert_eq!(error.unwrap().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn a_byte_that_changes_is_noticed(place in 0..100_usize, bit in 0..8_u32) {
        let mut bytes = written(20, 5);
        let place = first_line().len() + place % (bytes.len() - first_line().len());
        bytes[place] ^= 1 << bit;
        let (_, _, error) = read_leniently(&bytes);
        prop_assert!(matches!(error, Some(Unreadable::Damaged(_))));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [first_line(), bytes].concat();
        read_leniently(&bytes);
    }

    #[test]
    fn items_that_no_recorder_writes_are_refused(items in prop::collection::vec(any::<u8>(), 1..200)) {
        let mut bytes = first_line();
        bytes.extend(seal(&items, 0));
        read_leniently(&bytes);
    }
}

/// As [`read`], whatever the items are.
fn read_leniently(bytes: &[u8]) -> (usize, bool, Option<Unreadable>) {
    let mut reader = Reader::new(bytes).unwrap();
    let (mut records, mut has_note) = (0, false);
    loop {
        match reader.item() {
            Ok(Some(Item::Note(_))) => has_note = true,
            Ok(Some(_)) => records += 1,
            Ok(None) => return (records, has_note, None),
            Err(error) => return (records, has_note, Some(error)),
        }
    }
}
