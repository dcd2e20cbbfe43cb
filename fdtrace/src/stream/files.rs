//! What the file iterator wrote: records, each followed by its path.

use fdtrace_common::file::FileRecord;
use zerocopy::FromBytes;

use super::decode::WrongSize;
use crate::model::file::OpenFile;

/// Splits the iterator's output. `lookup` is asked for the path of a record that brings none.
pub fn decode(
    mut bytes: &[u8],
    lookup: impl Fn(&FileRecord) -> Vec<u8>,
) -> Result<Vec<OpenFile>, WrongSize> {
    let mut files = Vec::new();
    while !bytes.is_empty() {
        let wrong = WrongSize {
            got: bytes.len(),
            expected: size_of::<FileRecord>(),
        };
        let (record, rest) = FileRecord::read_from_prefix(bytes).map_err(|_| wrong.clone())?;
        let (path, rest) = rest
            .split_at_checked(record.path_length as usize)
            .ok_or(wrong)?;
        bytes = rest;
        let path = path.strip_suffix(&[0]).unwrap_or(path);
        files.push(if path.is_empty() {
            OpenFile::new(&record, &lookup(&record))
        } else {
            OpenFile::new(&record, path)
        });
    }
    Ok(files)
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
            path_length: u32::try_from(path.len()).unwrap(),
            ..FileRecord::new_zeroed()
        };
        [record.as_bytes(), path].concat()
    }

    #[test]
    fn paths_of_any_length_follow_their_records() {
        let bytes = [
            written(3, b"/a\0"),
            written(4, b""),
            written(5, b"/long/er\0"),
        ]
        .concat();
        let files = decode(&bytes, |record| format!("asked {}", record.fd).into_bytes()).unwrap();
        let seen: Vec<_> = files
            .iter()
            .map(|file| (file.fd, file.target.as_slice()))
            .collect();
        assert_eq!(seen, [(3, &b"/a"[..]), (4, b"asked 4"), (5, b"/long/er")]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = written(3, b"/a/path\0");
        for length in 1..whole.len() {
            assert!(
                decode(&whole[..length], |_| Vec::new()).is_err(),
                "{length} bytes"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes, |_| Vec::new());
        }
    }
}
