//! The ring's records by their kind.

use fdtrace_common::{
    change::{BitsRecord, CloseRecord, CopyRecord, OpenRecord, SlotsRecord, ThreadRecord},
    held::HeldRecord,
    python::{PYTHON_FRAMES, PythonFrame, PythonRecord},
    record::{
        RECORD_ALARM, RECORD_BOUND, RECORD_CLOSED, RECORD_COPIED, RECORD_COPIED_SLOTS,
        RECORD_EXECUTED, RECORD_EXITED, RECORD_HELD, RECORD_MARK, RECORD_OPENED, RECORD_PROGRAM,
        RECORD_PYTHON, RECORD_RENAMED, RECORD_REPLACED, RECORD_SEEN, RECORD_STACK,
    },
    stack::{ProgramRecord, StackRecord},
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// One record. Nothing here trusts the text in it: it is a traced process's own.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A call failed for want of an fd: to be decoded by `stream::decode`.
    Alarm(&'a [u8]),
    /// A change of a table.
    Change(Changed<'a>),
    /// A slot of a table that has just run out.
    Held(&'a HeldRecord),
    /// The iterator has come to its end.
    Mark,
    /// Whoever opens the file of the next record, and as much of the stack as could be copied.
    Stack(&'a StackRecord, &'a [u8]),
    /// The frames of an interpreter, the innermost first, of the stack that comes next.
    Python(&'a PythonRecord, &'a [PythonFrame]),
    /// What a process executes from here on.
    Program(&'a ProgramRecord),
}

/// One change of a table, for the model.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// A file comes into a slot, free or not.
    Opened(&'a OpenRecord),
    /// A file has left its slot.
    Closed(&'a CloseRecord),
    /// A table has been copied.
    Copied(&'a CopyRecord),
    /// Part of what the copy holds.
    CopiedSlots(&'a SlotsRecord),
    /// What exec has left.
    Executed(&'a BitsRecord),
    /// A thread has been made.
    Bound(&'a ThreadRecord),
    /// A thread ends.
    Exited(&'a ThreadRecord),
    /// A thread has a new name.
    Renamed(&'a ThreadRecord),
}

/// Bytes that are no record.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record of kind {kind} and {length} bytes: kernel programs and fdtrace differ")]
pub struct NoRecord {
    /// The first word.
    pub kind: u32,
    /// Bytes there.
    pub length: usize,
}

impl<'a> Record<'a> {
    /// Reads one record where it lies; it must lie at a multiple of 8.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NoRecord> {
        let kind = bytes
            .first_chunk()
            .map_or(0, |word| u32::from_ne_bytes(*word));
        let change = match kind {
            RECORD_ALARM => return Ok(Self::Alarm(bytes)),
            RECORD_MARK => return Ok(Self::Mark),
            RECORD_HELD => return Ok(Self::Held(whole(bytes, kind)?)),
            RECORD_STACK => return stack(bytes, kind),
            RECORD_PYTHON => return python(bytes, kind),
            RECORD_PROGRAM => return Ok(Self::Program(whole(bytes, kind)?)),
            RECORD_OPENED | RECORD_REPLACED | RECORD_SEEN => Changed::Opened(whole(bytes, kind)?),
            RECORD_CLOSED => Changed::Closed(whole(bytes, kind)?),
            RECORD_COPIED => Changed::Copied(whole(bytes, kind)?),
            RECORD_COPIED_SLOTS => Changed::CopiedSlots(whole(bytes, kind)?),
            RECORD_EXECUTED => Changed::Executed(whole(bytes, kind)?),
            RECORD_BOUND => Changed::Bound(whole(bytes, kind)?),
            RECORD_EXITED => Changed::Exited(whole(bytes, kind)?),
            RECORD_RENAMED => Changed::Renamed(whole(bytes, kind)?),
            _ => {
                return Err(NoRecord {
                    kind,
                    length: bytes.len(),
                });
            }
        };
        Ok(Self::Change(change))
    }
}

fn stack(bytes: &[u8], kind: u32) -> Result<Record<'_>, NoRecord> {
    let parts = StackRecord::ref_from_prefix(bytes).ok();
    let parts = parts.and_then(|(head, rest)| Some((head, rest.get(..head.length as usize)?)));
    let (head, stack) = parts.ok_or(NoRecord {
        kind,
        length: bytes.len(),
    })?;
    Ok(Record::Stack(head, stack))
}

fn python(bytes: &[u8], kind: u32) -> Result<Record<'_>, NoRecord> {
    let read = || {
        let (head, rest) = PythonRecord::ref_from_prefix(bytes).ok()?;
        let count = (head.count as usize).min(PYTHON_FRAMES);
        let frames = rest.get(..count * size_of::<PythonFrame>())?;
        Some(Record::Python(
            head,
            <[PythonFrame]>::ref_from_bytes(frames).ok()?,
        ))
    };
    read().ok_or(NoRecord {
        kind,
        length: bytes.len(),
    })
}

fn whole<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8], kind: u32) -> Result<&T, NoRecord> {
    T::ref_from_bytes(bytes).map_err(|_| NoRecord {
        kind,
        length: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    #[test]
    fn a_record_is_read_by_its_kind_and_must_be_whole() {
        let record = CloseRecord {
            kind: RECORD_CLOSED,
            fd: 7,
            ..CloseRecord::new_zeroed()
        };
        let bytes = record.as_bytes();
        let read = Record::read(bytes).unwrap();
        assert!(matches!(read, Record::Change(Changed::Closed(record)) if record.fd == 7));
        let error = Record::read(&bytes[..48]).unwrap_err();
        assert_eq!((error.kind, error.length), (RECORD_CLOSED, 48));
    }

    #[test]
    fn a_stack_is_as_long_as_its_head_says() {
        let record = StackRecord {
            kind: RECORD_STACK,
            length: 16,
            ..StackRecord::new_zeroed()
        };
        // The ring hands out records of whole words.
        let bytes = [record.as_bytes(), &[7; 16], &[0; 8]].concat();
        let mut words = vec![0_u64; bytes.len() / 8];
        words.as_mut_bytes().copy_from_slice(&bytes);
        let read = Record::read(words.as_bytes()).unwrap();
        assert!(matches!(read, Record::Stack(_, stack) if stack == [7; 16]));
        assert!(Record::read(&words.as_bytes()[..120]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(words in prop::collection::vec(any::<u64>(), 0..80), kind: u8) {
            let mut words = words;
            if let Some(first) = words.first_mut() {
                *first = u64::from(kind % 16);
            }
            let _ = Record::read(words.as_bytes());
        }
    }
}
