//! What the file iterator wrote: records, each followed by its path; or how many there are of each kind.

use std::collections::BTreeMap;

use fdtrace_common::file::{FileRecord, KindsRecord, PATH_SIZE, PLAIN_SIZE, SOCKET_SIZE};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::decode::WrongSize;
use crate::ground::{
    file::{Comm, OpenFile},
    kind::Kind,
    listing::Kinds,
};

/// Reads whole records from the start of the output; how many bytes they are. `lookup` is asked for the path
/// of a record that brings none.
pub fn decode(
    bytes: &[u8],
    lookup: impl Fn(&FileRecord) -> Vec<u8>,
    files: &mut Vec<OpenFile>,
) -> Result<usize, WrongSize> {
    let mut left = bytes;
    while let Some((record, path, rest)) = split(left)? {
        left = rest;
        let path = path.strip_suffix(&[0]).unwrap_or(path);
        files.push(if path.is_empty() {
            OpenFile::new(&record, &lookup(&record))
        } else {
            OpenFile::new(&record, path)
        });
    }
    Ok(bytes.len() - left.len())
}

/// A record, its path, and what follows.
type Entry<'a> = (FileRecord, &'a [u8], &'a [u8]);

/// The first record; `None` where it is not all there.
fn split(bytes: &[u8]) -> Result<Option<Entry<'_>>, WrongSize> {
    // The two numbers that tell how much there is.
    let (Some(size), Some(length)) = (word(bytes, 0), word(bytes, 4)) else {
        return Ok(None);
    };
    if ![PLAIN_SIZE, SOCKET_SIZE, size_of::<FileRecord>()].contains(&size) || length > PATH_SIZE {
        return Err(wrong_size(size));
    }
    let Some((head, rest)) = bytes.split_at_checked(size) else {
        return Ok(None);
    };
    let Some((path, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let mut record = FileRecord::new_zeroed();
    record.as_mut_bytes()[..size].copy_from_slice(head);
    Ok(Some((record, path, rest)))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_ne_bytes(*word)).ok()
}

/// What is left of a record when there is no more.
#[must_use]
pub fn wrong_size(got: usize) -> WrongSize {
    WrongSize {
        got,
        expected: size_of::<FileRecord>(),
    }
}

/// The counts of all tables.
pub fn decode_kinds(bytes: &[u8]) -> Result<Vec<Kinds>, WrongSize> {
    const SIZE: usize = size_of::<KindsRecord>();
    let records = bytes.chunks_exact(SIZE);
    if !records.remainder().is_empty() {
        return Err(WrongSize {
            got: bytes.len(),
            expected: SIZE,
        });
    }
    Ok(records
        .filter_map(|bytes| KindsRecord::read_from_bytes(bytes).ok())
        .map(|record| Kinds {
            tid: record.tid,
            tgid: record.tgid,
            uid: record.uid,
            comm: Comm::new(record.comm),
            open: record.kinds.iter().copied().fold(0, u32::saturating_add),
            kinds: by_kind(&record.kinds),
        })
        .collect())
}

fn by_kind(counts: &[u32]) -> BTreeMap<Kind, u32> {
    let counts = (0..).zip(counts).filter(|(_, count)| **count > 0);
    counts
        .map(|(number, count)| (Kind::from_repr(number).unwrap_or_default(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn written(fd: u32, path: &[u8]) -> Vec<u8> {
        let record = FileRecord {
            fd,
            mode: 0o100_644,
            links: 1,
            size: u32::try_from(PLAIN_SIZE).unwrap(),
            path_length: u32::try_from(path.len()).unwrap(),
            ..FileRecord::new_zeroed()
        };
        [&record.as_bytes()[..PLAIN_SIZE], path].concat()
    }

    #[test]
    fn paths_of_any_length_follow_their_records() {
        let bytes = [
            written(3, b"/a\0"),
            written(4, b""),
            written(5, b"/long/er\0"),
        ]
        .concat();
        let mut files = Vec::new();
        let lookup = |record: &FileRecord| format!("asked {}", record.fd).into_bytes();
        assert_eq!(decode(&bytes, lookup, &mut files), Ok(bytes.len()));
        let seen: Vec<_> = files.iter().map(|file| (file.fd, &*file.target)).collect();
        assert_eq!(seen, [(3, &b"/a"[..]), (4, b"asked 4"), (5, b"/long/er")]);
    }

    #[test]
    fn what_is_cut_off_waits_for_its_rest() {
        let whole = written(3, b"/a/path\0");
        let bytes = [&whole[..], &whole].concat();
        for length in 0..bytes.len() {
            let mut files = Vec::new();
            let used = decode(&bytes[..length], |_| Vec::new(), &mut files).unwrap();
            let records = length / whole.len();
            assert_eq!((used, files.len()), (records * whole.len(), records));
        }
    }

    #[test]
    fn lengths_that_no_record_has_are_refused() {
        let mut files = Vec::new();
        let mut wrong = written(3, b"/a\0");
        wrong[0] += 1;
        assert!(decode(&wrong, |_| Vec::new(), &mut files).is_err());
        let long = vec![b'x'; PATH_SIZE + 1];
        assert!(decode(&written(3, &long), |_| Vec::new(), &mut files).is_err());
    }

    #[test]
    fn counts_are_told_by_kind() {
        let mut record = KindsRecord::new_zeroed();
        record.tid = 7;
        record.comm[..2].copy_from_slice(b"sh");
        record.kinds[Kind::Pipe as usize] = 3;
        record.kinds[Kind::Unknown as usize] = 1;
        let tables = decode_kinds(record.as_bytes()).unwrap();
        assert_eq!(tables.len(), 1);
        assert_eq!((tables[0].tid, &*tables[0].comm), (7, &b"sh"[..]));
        assert_eq!(
            tables[0].kinds,
            BTreeMap::from([(Kind::Pipe, 3), (Kind::Unknown, 1)])
        );
        assert!(decode_kinds(&record.as_bytes()[1..]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes, |_| Vec::new(), &mut Vec::new());
            let _ = decode_kinds(&bytes);
        }
    }
}
